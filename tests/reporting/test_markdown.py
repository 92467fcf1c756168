import pytest

from src.reporting.markdown import code, escape, interval, markdown_table, with_interval


def test_columns_line_up() -> None:
    assert markdown_table(("a", "long head"), [("1", "x"), ("12345", "y")]) == (
        "| a     | long head |\n| ----- | --------- |\n| 1     | x         |\n| 12345 | y         |"
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("stable_diffusion", "stable_diffusion"),
        ("_init_", r"\_init\_"),
        ("a|b", r"a\|b"),
        ("*bold* `code` <b> &amp;", r"\*bold\* \`code\` \<b> \&amp;"),
        ("[a](http://x)", r"[a\](http://x)"),
        ("0.5 [0.4, 0.6]", "0.5 [0.4, 0.6]"),
        ("one\ntwo\x1b[31m\u202e", r"one\\ntwo\\x1b[31m\\u202e"),
        ("back\\slash", r"back\\slash"),
        ("写真 é", "写真 é"),
    ],
)
def test_a_cell_shows_its_text_as_it_is(text: str, shown: str) -> None:
    assert escape(text) == shown
    assert markdown_table(("name",), [(text,)]).splitlines()[2] == f"| {shown} |".replace(
        f"{shown} ", shown.ljust(4) + " "
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a_b", "`a_b`"), ("`", "`` ` ``"), ("a``b", "``` a``b ```"), ("\n", r"`\n`")],
)
def test_code_shows_its_text_as_it_is(text: str, shown: str) -> None:
    assert code(text) == shown


def test_a_number_is_followed_by_its_interval() -> None:
    assert interval(-0.25, 0.5) == "-0.250 to 0.500"
    assert with_interval(0.8124, 0.79, 0.8341) == "0.812 (0.790 to 0.834)"
