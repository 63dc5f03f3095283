"""The MCP server: tools, resources, and the process over stdio."""
