import argparse
argparse.ArgumentParser(description="A tool").parse_args(["--help"])
