"""What libraries show of their own accord: figures, fonts, and objects with a `show`."""

from __future__ import annotations

import pytest
from docker import APIClient

from mcp_agentrun.engine.network import NetworkSettings
from mcp_agentrun.sandbox import AsyncSandbox
from tests.support.local_index import make_wheel, serve_index
from tests.support.sandboxes import open_sandbox, text_of

pytestmark = pytest.mark.anyio

PLT = "import matplotlib.pyplot as plt\n"
FIGURES = {
    "shown and closed": ("plt.plot([1, 2]); plt.show(); plt.close()", 1),
    "shown and cleared": ("plt.plot([1, 2]); plt.show(); plt.clf()", 1),
    "closed, not shown": ("plt.plot([1]); plt.close()", 0),
    "empty": ("plt.figure()\nNone", 0),
    "empty and shown": ("plt.figure(); plt.show()", 0),
    "text alone": ("plt.figure().text(0, 0, 'x')\nNone", 1),
    "one of two shown": ("a = plt.figure(); plt.plot([1]); a.show(); plt.figure(); plt.plot([2])\nNone", 2),
    "in a loop": ("for i in range(3): plt.plot([1, 2]); plt.show()", 3),
    "the same twice": ("f, ax = plt.subplots(); ax.plot([1]); f.show(); display(f); plt.show(); f;", 1),
    "two states": ("f, ax = plt.subplots(); ax.plot([1]); display(f); ax.plot([3, 1]); display(f); plt.show()", 2),
    "not blocking": ("plt.plot([1]); plt.show(block=False); plt.show(); plt.show()", 1),
    "paused": ("plt.plot([1]); plt.pause(0.001); plt.plot([2, 1]); plt.pause(0.001)", 2),
    "of a frame": ("import pandas as pd; pd.Series([1, 2]).plot(); plt.show()", 1),
    "drawn after an error": ("plt.plot([1])\n1 / 0", 1),
    "from pylab": ("from pylab import *\nplot([1, 2]); show(); close()", 1),
    "as subfigures": ("plt.figure().subfigures(1, 2)[0].subplots().plot([1])\nNone", 1),
}


@pytest.mark.parametrize("what", FIGURES)
async def test_each_state_of_a_figure_is_shown_once(shared: AsyncSandbox, what: str) -> None:
    code, count = FIGURES[what]
    result = await shared.run(PLT + code)
    assert len(result.images) == count, result.output.text()
    assert (await shared.run("None")).images == ()


async def test_what_was_drawn_in_advance_leaves_no_file_open(shared: AsyncSandbox) -> None:
    await text_of(shared, "import matplotlib")  # so that the next worker is warm
    await shared.reset()
    assert await text_of(shared, "import sys; 'matplotlib.backends.backend_agg' in sys.modules") == "True\n"
    assert await text_of(shared, "import os; len(os.listdir('/proc/self/fd'))") == "4\n"  # with the folder itself


async def test_a_shown_figure_has_what_was_drawn_before_and_is_not_drawn_over(shared: AsyncSandbox) -> None:
    code = PLT + "plt.plot([1, 2]); plt.show()\nplt.plot([2, 1]); plt.show()\nplt.plot([1, 2]); plt.show()"
    first, second, third = (await shared.run(code)).images
    assert first.data == third.data != second.data
    assert len(first.data) > 5000


async def test_a_figure_is_saved_after_it_was_shown(shared: AsyncSandbox) -> None:
    code = PLT + "plt.plot([1, 2]); plt.savefig('before.png'); plt.show(); plt.savefig('after.png')"
    await text_of(shared, code)
    assert await text_of(shared, "open('before.png', 'rb').read() == open('after.png', 'rb').read()") == "True\n"


OUTLINES = {
    "labels": "plt.plot([1, 2]); plt.xlabel('x'); plt.ylabel('y')",
    "a legend beside it": "plt.plot([1], label='legend'); plt.legend(bbox_to_anchor=(1.05, 1))",
    "text far away": "plt.plot([1]); plt.figtext(1.3, 1.2, 'text')",
    "a layout": "plt.subplots(2, 2, layout='constrained')",
    "an aspect": "plt.imshow([[1, 2], [3, 4]]); plt.colorbar()",
    "three dimensions": "plt.figure().add_subplot(projection='3d').plot([1, 2], [2, 3], [3, 4])",
    "tight by default": "plt.rcParams['savefig.bbox'] = 'tight'; plt.plot([1])",
    "axes up to the edges": "plt.figure(facecolor='red').add_axes((0, 0, 1, 1)).imshow([[1, 2]], aspect='auto')",
    "a gray": "plt.figure(facecolor='0.3').suptitle('title'); plt.plot([1, 2])",
    "another color": "plt.rcParams['savefig.facecolor'] = 'green'; plt.plot([1, 2]); plt.xlabel('x')",
    "no color": "plt.rcParams['savefig.transparent'] = True; plt.plot([1, 2]); plt.xlabel('x')",
    "half a color": "plt.figure(facecolor=(1, 0, 0, 0.5)); plt.plot([1, 2]); plt.xlabel('x')",
    "a frame": "plt.figure(linewidth=9, edgecolor='red'); plt.plot([1, 2])",
}
COMPARED = """
import io
from PIL import Image
shown, saved = Image.open(io.BytesIO(picture)), Image.open('tight.png')
assert all(0 <= wide - less <= 2 for wide, less in zip(shown.size, saved.size)), (shown.size, saved.size)
for x, y in (0, 0), (-1, 0), (0, -1), (-1, -1), (-4, -4):
    colors = {each.getpixel((x % each.width, y % each.height)) for each in (shown, saved)}
    assert len(colors) == 1, colors
"""


@pytest.mark.parametrize("what", OUTLINES)
async def test_a_figure_is_shown_within_the_margins_of_a_tight_box(shared: AsyncSandbox, what: str) -> None:
    drawn = f"{OUTLINES[what]}; plt.savefig('tight.png', bbox_inches='tight'); plt.show()"
    result = await shared.run(f"{PLT}with plt.rc_context():\n    {drawn}")
    assert result.outcome == "ok", result.output.text()
    (image,) = result.images
    result = await shared.run(f"picture = {image.data!r}{COMPARED}")
    assert result.outcome == "ok", result.output.text()


# matplotlib says, once in a process, which of its own fonts lack what is asked for.
QUIET = "import logging; logging.getLogger('matplotlib').setLevel('ERROR'); "
ASKED = {
    "theme": "plt.style.use('seaborn-v0_8')",
    "serif": "plt.rcParams['font.family'] = 'serif'",
    "monospace": "plt.rcParams['font.family'] = ['monospace']",
    "sans": "plt.rcParams['font.sans-serif'] = ['DejaVu Sans']",
    "defaults": "plt.rcdefaults()",
    "bold": f"{QUIET}plt.rcParams['font.weight'] = 'bold'",
    "dark": "plt.style.use('dark_background')",
    "comic": f"{QUIET}plt.xkcd()",
}
TEXT = "日本語 中文 한국어 $x^2$"


@pytest.mark.parametrize("what", ASKED)
@pytest.mark.parametrize("text", ["日本語 中文 한국어", TEXT])
async def test_east_asian_characters_are_found_whatever_font_is_asked_for(
    shared: AsyncSandbox, what: str, text: str
) -> None:
    code = f"{PLT}with plt.rc_context():\n    {ASKED[what]}\n    plt.title({text!r}, fontweight='bold'); plt.show()"
    result = await shared.run(code)
    assert (result.output.text(), len(result.images)) == ("", 1)


async def test_a_font_by_name_has_them_as_well(shared: AsyncSandbox) -> None:
    await shared.reset()
    result = await shared.run(PLT + "plt.title('日本語', fontname='Arial'); plt.show()")
    assert "Glyph" not in result.output.text()
    assert result.output.text().count("findfont: Font family 'Arial' not found.") == 1


@pytest.mark.parametrize("show", ["plt.show()", "display(plt.gcf()); plt.close()", "plt.gcf().show()", "None"])
async def test_what_drawing_warns_of_is_passed_on(shared: AsyncSandbox, show: str) -> None:
    result = await shared.run(f"{PLT}plt.title('\\u0e01'); plt.plot([1])\n{show}")
    warnings = [line for line in result.output.text().splitlines() if "Warning" in line]
    assert warnings[0].startswith(f"<run-{result.number}>:3: UserWarning: Glyph 3585 ") and len(warnings) == 1
    assert "/opt/agentrun" not in result.output.text()


async def test_errors_of_drawing_are_passed_on_and_the_code_goes_on(shared: AsyncSandbox) -> None:
    result = await shared.run(f"{PLT}plt.title('$\\\\nonsense$'); plt.show()\nprint('on')")
    assert "a figure could not be drawn" in result.output.text() and result.output.text().endswith("on\n")


# -- other libraries

FAKES = {
    "plotly": {
        "plotly/__init__.py": "from . import io, graph_objects",
        "plotly/graph_objects.py": (
            "from .io import _renderers\n"
            "class Figure:\n"
            "    def __init__(self, data=None): pass\n"
            "    def to_html(self): return '<html>plotly</html>'\n"
            "    def show(self, *given, **named): return _renderers.show(self, *given, **named)\n"
        ),
        "plotly/io/__init__.py": "from ._renderers import show",
        "plotly/io/_renderers.py": "def show(fig, renderer=None, validate=True): raise ValueError('no browser')",
    },
    "altair": {
        "altair/__init__.py": (
            "class Chart:\n"
            "    def to_html(self): return '<html>altair</html>'\n"
            "    def show(self):\n        from IPython.display import display\n        display(self)\n"
        )
    },
    "bokeh": {
        "bokeh/__init__.py": "",
        "bokeh/io/__init__.py": (
            "from .notebook import push_notebook\nfrom .showing import show\nfrom .output import output_notebook"
        ),
        "bokeh/io/state.py": "class State: last_comms_handle = None\ndef curstate(): return State",
        "bokeh/io/showing.py": ("def show(obj, browser=None): raise RuntimeError('no browser')"),
        "bokeh/io/notebook.py": (
            "def push_notebook(*, document=None, state=None, handle=None): print('no plot to update')"
        ),
        "bokeh/io/output.py": "def output_notebook(): raise RuntimeError('no notebook')",
        "bokeh/plotting.py": (
            "from .io import push_notebook, show, output_notebook\n"
            "class figure:\n    sizing_mode, title = None, 'bokeh'\n    def select_one(self): pass\n"
        ),
        "bokeh/embed.py": (
            "def file_html(models):\n"
            "    models = models if isinstance(models, list) else [models]\n"
            "    return f'<html>{models[0].title}</html>'\n"
        ),
    },
    "cv2": {
        "cv2/__init__.py": (
            "def imshow(name, mat): raise RuntimeError('not implemented')\nwaitKey = destroyAllWindows = imshow\n"
            "def imencode(suffix, mat):\n"
            "    import io, numpy, PIL.Image\n    file = io.BytesIO()\n"
            "    PIL.Image.fromarray(mat[..., ::-1]).save(file, 'PNG')\n"
            "    return True, numpy.frombuffer(file.getvalue(), 'uint8')\n"
        )
    },
}
PAGE = "import webbrowser; open('/tmp/a.html', 'w').write('<html>browser</html>')\n"
SHOWS = {
    "plotly": "import plotly.graph_objects as go; go.Figure().show(renderer='png')",
    "plotly by function": "import plotly.io as pio; pio.show({'data': []})",
    "altair": "import altair; altair.Chart().show()",
    "bokeh": "from bokeh.plotting import *\noutput_notebook(); show(figure())",
    "bokeh of several": "from bokeh.plotting import *\nshow([figure(), figure()])",
    "browser": PAGE + "assert webbrowser.open('file:///tmp/a.html')",
    "browser by name": PAGE + "assert webbrowser.get().open_new_tab('/tmp/a.html')",
}


@pytest.fixture(scope="module")
async def libraries(runner_image: str, anyio_backend: str, api: APIClient, tmp_path_factory: pytest.TempPathFactory):
    """A sandbox with libraries that show things as the real ones do."""
    root = tmp_path_factory.mktemp("index")
    for name, files in FAKES.items():
        make_wheel(root / "simple" / f"fake-{name}", f"fake-{name}", files=files)
    with serve_index(root, api) as index:
        async with open_sandbox(network=NetworkSettings(index_url=index)) as sandbox:
            await sandbox.install(*(f"fake-{name}" for name in FAKES))
            yield sandbox


@pytest.mark.parametrize("what", SHOWS)
async def test_a_library_s_own_show_shows_it(libraries: AsyncSandbox, what: str) -> None:
    result = await libraries.run(SHOWS[what] + "\nNone")
    assert result.outcome == "ok" and "Figure" not in result.output.text(), result.output.text()
    (file,) = result.files
    assert file.path.startswith("output/run-")
    assert (await libraries.files.read(file.path)).decode() == f"<html>{what.split()[0]}</html>"


@pytest.mark.parametrize("name", ["plotly.graph_objects.Figure()", "altair.Chart()", "bokeh.plotting.figure()"])
async def test_it_shows_what_a_last_expression_does(libraries: AsyncSandbox, name: str) -> None:
    result = await libraries.run(f"import {name.rpartition('.')[0]}\n{name}")
    assert len(result.files) == 1, result.output.text()


async def test_a_plot_that_is_changed_is_shown_in_place(libraries: AsyncSandbox) -> None:
    code = "from bokeh.plotting import *\np = figure(); push_notebook(); h = show(p, notebook_handle=True)\nNone"
    result = await libraries.run(code)
    (file,) = result.files
    assert result.output.text() == "no plot to update\n"
    for push, title in (("push_notebook()", "A"), ("push_notebook(handle=h)", "B")):
        result = await libraries.run(f"p.title = '{title}'; {push}")
        assert [each.path for each in result.files] == [file.path], result.output.text()
        assert (await libraries.files.read(file.path)).decode() == f"<html>{title}</html>"
    assert (await text_of(libraries, "h")).startswith("<bokeh.io.notebook.CommsHandle object at 0x")


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("bokeh.plotting.show(1)", "AttributeError"),
        ("bokeh.plotting.show(print)", "NotImplementedError"),  # a function makes an application
        ("plotly.io.show(1)", "AttributeError"),
    ],
)
async def test_a_show_that_shows_nothing_fails(libraries: AsyncSandbox, code: str, error: str) -> None:
    result = await libraries.run(f"import {code.partition('.show')[0]}\n{code}")
    assert result.error is not None and result.error.type == error, result.output.text()
    assert "library_patches" not in result.output.text()


async def test_windows_of_opencv_are_pictures(libraries: AsyncSandbox) -> None:
    code = (
        "import cv2, numpy\ncv2.namedWindow('w'); cv2.imshow('w', numpy.zeros((20, 30, 3), 'uint8'))\n"
        "cv2.imshow('w', numpy.ones((20, 30, 3)))\nassert cv2.waitKey(0) == -1; cv2.destroyAllWindows()"
    )
    result = await libraries.run(code)
    assert [(picture.width, picture.height) for picture in result.images] == [(30, 20)] * 2, result.output.text()


async def test_pages_elsewhere_can_not_be_opened_and_that_is_said(shared: AsyncSandbox) -> None:
    code = "import webbrowser\nwebbrowser.open('https://example.com/')"
    assert await text_of(shared, code) == "No browser is available here to open https://example.com/\nFalse\n"


async def test_modules_are_changed_without_a_trace(shared: AsyncSandbox) -> None:
    code = "import sys, webbrowser\nprint(webbrowser.__spec__.loader.exec_module.__self__ is webbrowser.__loader__)"
    assert await text_of(shared, code + "\nsum('Six' not in repr(each) for each in sys.meta_path)") == "True\n3\n"
    await text_of(shared, "open('cv2.py', 'w').write('1 / 0');")
    result = await shared.run("import cv2")
    files = [line for line in result.output.text().splitlines() if "File" in line]
    assert files == [
        f'  File "<run-{result.number}>", line 1, in <module>',
        '  File "/workspace/cv2.py", line 1, in <module>',
    ]
    await text_of(shared, "import os; os.remove('cv2.py')")


# -- HTML beside a repr

REPRS = {
    "a model": ("LinearRegression()", 0),
    "a table": ("shape: (3, 2)\\n| a |", 0),
    "a long table": ("| a | b |\\n' * 500 + '", 0),
    "a name": ("<folium.Map object at 0x7f>", 1),
    "nothing": ("", 1),
    "a long line": ("x' * 5000 + '", 1),
}


@pytest.mark.parametrize("what", REPRS)
async def test_html_needs_a_file_only_where_the_repr_says_nothing(shared: AsyncSandbox, what: str) -> None:
    text, files = REPRS[what]
    code = (
        f"class Model:\n    def __repr__(self): return '{text}'\n    def _repr_html_(self): return 'x' * 5000\nModel()"
    )
    result = await shared.run(code)
    assert len(result.files) == files, result.output.text()
    if not files:
        assert result.output.text() == await text_of(shared, "print(repr(Model()))")


CACHES = [
    *("__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis", ".ipynb_checkpoints"),
    *("deep/er/__pycache__", ".cache", ".tox", ".git", "node_modules", ".venv"),
]


@pytest.mark.parametrize("folder", CACHES)
async def test_caches_are_no_results(shared: AsyncSandbox, folder: str) -> None:
    code = (
        f"import os; os.makedirs({folder!r}); open({folder + '/x'!r}, 'w').write('x'); open('result', 'w').write('x');"
    )
    result = await shared.run(code)
    assert [file.path for file in result.files] == ["result"]
    await shared.reset()
