"""Rich values of real packages, installed in a real session. Not part of `make test`: run it with `make packages`."""

from __future__ import annotations

import pytest
from mcp.types import BlobResourceContents, ImageContent, ResourceLink, TextResourceContents

from tests.support.clients import OpenClient
from tests.support.clients import client_text as text_of

pytestmark = pytest.mark.anyio

PLOTLY = "import plotly.express as px\npx.scatter(x=[1, 2, 3], y=[4, 1, 3], title='散布図')"
ALTAIR = """
import altair as alt, pandas as pd
alt.Chart(pd.DataFrame({'a': [1, 2], 'b': [3, 4]})).mark_bar().encode(x='a:O', y='b')
"""


@pytest.mark.parametrize(("package", "code", "mark"), [("plotly", PLOTLY, "Plotly"), ("altair", ALTAIR, "vega")])
async def test_a_chart_is_a_page_that_can_be_read(open_client: OpenClient, package: str, code: str, mark: str) -> None:
    async with open_client("--resource-links") as client:
        installed = await client.call_tool("install_package", {"packages": package})
        assert not installed.is_error, text_of(installed)
        run = await client.call_tool("run_python", {"code": code})
        assert not run.is_error, text_of(run)
        print(text_of(run))
        assert len(text_of(run)) < 2500
        (link,) = [block for block in run.content if isinstance(block, ResourceLink)]
        assert link.mime_type == "text/html"
        (page,) = (await client.read_resource(link.uri)).contents
        assert not isinstance(page, BlobResourceContents) or page.blob
        assert isinstance(page, TextResourceContents)
        assert "<html" in page.text and mark in page.text


async def test_what_the_image_has(open_client: OpenClient) -> None:
    async with open_client() as client:
        styled = await client.call_tool(
            "run_python", {"code": "import pandas as pd\npd.DataFrame({'a': [1]}).to_html()"}
        )
        assert "<table" in text_of(styled)
        image = await client.call_tool(
            "run_python", {"code": "from PIL import Image\nImage.linear_gradient('L').resize((64, 64))"}
        )
        assert any(isinstance(block, ImageContent) for block in image.content), text_of(image)
