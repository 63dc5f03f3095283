"""The example of function calling: what it makes of the replies of a weak model. Its code is run by a stand-in."""

from __future__ import annotations

import contextlib
import io
import traceback
from typing import Any

import pytest

from examples.agent_loop import SYSTEM, Agent, Endpoint, EndpointError, GaveUpError, Reply, code_in
from tests.support.scripted_model import ScriptedModel, call, scripted_model

QUESTION = "How many digits does 2**100 have?"
ANSWER = "It has 31 digits."
GOOD, WRONG = "print(len(str(2**100)))", "print(len(2**100))"


def run_here(code: str) -> Reply:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        try:
            exec(code, {})
        except Exception:
            return Reply(traceback.format_exc(), is_ok=False)
    return Reply(printed.getvalue(), is_ok=True)


def answer(model: ScriptedModel, question: str = QUESTION, **options: Any) -> str:
    with Endpoint(model.url, "weak") as ask:
        return Agent(ask, run_here, **options).answer(question)


def test_a_traceback_is_sent_back_until_the_code_works() -> None:
    with scripted_model(call(WRONG), call("import nothing_at_all"), call(GOOD), ANSWER) as model:
        assert answer(model) == ANSWER
    assert "TypeError: object of type 'int' has no len()" in model.last_received(1)
    assert "ModuleNotFoundError" in model.last_received(2)
    assert model.last_received(3) == "31\n"
    assert model.requests[3]["messages"][-1]["role"] == "tool"
    assert [tool["function"]["name"] for tool in model.requests[0]["tools"]] == ["run_python"]


def test_code_in_a_fence_is_run_as_if_it_had_been_called() -> None:
    fenced = f"Let me compute that:\n\n```python\n{WRONG}\n```\nDone!"
    with scripted_model(fenced, f"Sorry.\n```py\n{GOOD}\n```", ANSWER) as model:
        assert answer(model) == ANSWER
    assert "TypeError" in model.last_received(1)
    assert model.last_received(2) == "31\n"
    assert model.requests[2]["messages"][-1]["role"] == "user"


@pytest.mark.parametrize(
    "bad", ['{"code": "print(1)"', "print(31)", '["code"]', '{"source": "1"}', "{}", '{"code": 1}']
)
def test_invalid_arguments_are_reported_with_an_example(bad: str) -> None:
    with scripted_model(call(arguments=bad), call(GOOD), ANSWER) as model:
        assert answer(model) == ANSWER
    assert 'Call run_python again with a JSON object such as {"code": "print(1 + 1)"}.' in model.last_received(1)


@pytest.mark.parametrize("arguments", [{"code": "print(\n31)"}, '{"code": "print(\n31)"}'])
def test_an_object_and_raw_line_breaks_are_accepted_as_arguments(arguments: Any) -> None:
    with scripted_model(call(arguments=arguments), ANSWER) as model:
        assert answer(model) == ANSWER
    assert model.last_received(1) == "31\n"


def test_a_tool_that_does_not_exist_is_reported() -> None:
    with scripted_model(call(GOOD, name="python"), call(GOOD), ANSWER) as model:
        assert answer(model) == ANSWER
    assert model.last_received(1).startswith("There is no tool 'python'.")


def test_a_model_that_gives_up_is_asked_to_fix_its_code() -> None:
    with scripted_model(call(WRONG), "I think it is 30.", call(GOOD), ANSWER) as model:
        assert answer(model) == ANSWER
    assert model.last_received(2) == "Your code has not worked yet. Fix it and call run_python again."


def test_an_answer_that_repeats_the_code_is_an_answer() -> None:
    final = f"{ANSWER}\n```python\n{GOOD}\n```"
    with scripted_model(f"```python\n{GOOD}\n```", final) as model:
        assert answer(model) == final


def test_a_question_without_code_is_simply_answered() -> None:
    with scripted_model("Hello!") as model:
        assert answer(model, "Hi") == "Hello!"


def test_a_question_in_japanese_is_answered_in_japanese() -> None:
    with scripted_model(call("print(len('日本語'))"), "3文字です。") as model:
        assert answer(model, "「日本語」は何文字ですか?") == "3文字です。"
    assert model.requests[0]["messages"][1]["content"] == "「日本語」は何文字ですか?"
    assert "in the language of the question" in SYSTEM


def test_it_gives_up_after_so_many_steps() -> None:
    with scripted_model(*[call(WRONG)] * 3) as model, pytest.raises(GaveUpError, match="no answer in 3 steps"):
        answer(model, steps=3)


def test_an_endpoint_that_fails_is_reported() -> None:
    with scripted_model("", status=404) as model, pytest.raises(EndpointError, match="answered 404"):
        answer(model)
    nothing: Any = None
    with scripted_model(nothing) as model, pytest.raises(EndpointError, match="sent no message"):
        answer(model)
    with pytest.raises(EndpointError, match=r"nothing answers at .* Start Ollama, or name another --url"):
        answer(model)


@pytest.mark.parametrize("message", [None, [], ["text"], 1])
def test_a_reply_without_a_message_is_reported(message: Any) -> None:
    with scripted_model(message) as model, pytest.raises(EndpointError, match="sent no message"):
        answer(model)


@pytest.mark.parametrize("calls", ["run_python", {"name": "run_python"}, 1])
def test_calls_that_are_not_a_list_are_ignored(calls: Any) -> None:
    with scripted_model({"content": ANSWER, "tool_calls": calls}) as model:
        assert answer(model) == ANSWER


@pytest.mark.parametrize("each", [None, "run_python", {"function": "run_python"}, {"function": None}])
def test_malformed_calls_are_reported(each: Any) -> None:
    with scripted_model({"content": None, "tool_calls": [each]}, call(GOOD), ANSWER) as model:
        assert answer(model) == ANSWER
    assert model.last_received(1).startswith("There is no tool None.")


def test_lone_surrogates_are_replaced() -> None:
    escaped = call(arguments=r'{"code": "print(ascii(\"\ud800\"))"}')
    with scripted_model(call("print('\\ud800')"), escaped, call(GOOD, name="\ud800"), call(GOOD), "31 \ud800") as model:
        assert answer(model, "How many \ud800?") == "31 ?"
    assert model.requests[0]["messages"][1]["content"] == "How many ??"


def test_nested_arguments_are_reported() -> None:
    with scripted_model(call(arguments="[" * 100_000), call(GOOD), ANSWER) as model:
        assert answer(model) == ANSWER


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('{"name": "run_python", "arguments": {"code": "1"}}', "1"),
        ('```json\n{"name": "run_python", "parameters": {"code": "1"}}\n```', "1"),
        ("```\n1\n```", "1\n"),
        ("```python\n1\n```\nand\n```python\n2\n```", "1\n\n2\n"),
        ("```bash\nls\n```", None),
        ("```bash\npip install x\n```\nand then\n```python\n1\n```", "1\n"),
        ("```Python title=x\n1\n```\nprints\n```\nOutput: 1\n```", "1\n"),
        ("```python\r\n1\r\n```", "1\r\n"),
        ("Cut off:\n```python\nprint(1)", "print(1)"),
        ("plain", None),
        ("[1]", None),
    ],
)
def test_code_is_found_in_text(text: str, code: str | None) -> None:
    assert code_in(text) == code
