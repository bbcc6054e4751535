from __future__ import annotations

from langchain_hybridflow.plan import (
    Plan,
    Subtask,
    parse_plan,
    plan_to_xml,
    to_html,
    to_mermaid,
    to_tree,
)

NASTY = 'Is "x" <b>&lt;</b> `#1;` %% [a]{b}|\x1b[31m\nend\x00 ' + "long " * 50


def plan_with(task: str) -> Plan:
    return Plan(
        subtasks=[
            Subtask(id="end", task="What is asked?", role="explain"),
            Subtask(id="2", task=task, depends_on=["end"]),
            Subtask(id="3", task="Who?", role="generate", depends_on=["2", "end"]),
        ]
    )


def test_xml_reads_back_equal_when_text_needs_escaping() -> None:
    plan = plan_with("a \"b\" 'c' <d/> & &amp; \t tab \r\n line ]]> é😀")
    assert parse_plan(plan_to_xml(plan)).plan == plan


def test_xml_replaces_characters_when_xml_cannot_carry_them() -> None:
    assert "a\ufffdb" in plan_to_xml(plan_with("a\x00b"))


def test_mermaid_names_nodes_by_position_when_ids_are_keywords() -> None:
    lines = to_mermaid(plan_with("Why?")).splitlines()
    assert lines[1] == '    s0["end explain: What is asked?"]'
    assert lines[-3:] == ["    s0 --> s1", "    s1 --> s2", "    s0 --> s2"]


def test_mermaid_label_holds_no_markup_when_task_is_nasty() -> None:
    label = to_mermaid(plan_with(NASTY)).splitlines()[2].removeprefix('    s1["').removesuffix('"]')
    assert not set(label) & set('"<>&`[]{}|%\x1b\x00\n')
    assert label.startswith("2 analyze: Is #34;x#34; #60;b#62;#38;lt#59;#60;/b#62;")


def test_mermaid_colours_a_node_when_its_tier_is_known() -> None:
    drawn = to_mermaid(plan_with("Why?"), {"end": "edge", "3": "edge", "2": "?", "gone": "cloud"})
    assert drawn.splitlines()[-1] == "    class s0,s2 edge"
    assert "cloud" not in drawn


def test_tree_indents_by_depth_when_plan_has_levels() -> None:
    assert to_tree(plan_with("Why?")).splitlines() == [
        "end explain: What is asked?",
        "  2 analyze: Why? (after end)",
        "    3 generate: Who? (after 2, end)",
    ]


def test_tree_keeps_terminals_safe_when_task_is_nasty() -> None:
    line = to_tree(plan_with(NASTY)).splitlines()[1]
    assert line.isprintable()
    assert len(line) < 140


def test_plan_shows_itself_in_a_notebook() -> None:
    html = plan_with("Why?")._repr_html_()
    assert html == to_html(plan_with("Why?"))
    assert html.count("<tr>") == 4
    assert "2, end" in html


def test_html_escapes_task_when_it_is_nasty() -> None:
    html = to_html(plan_with("<script>x</script>" + NASTY))
    assert "<script" not in html
    assert "<b>" not in html
    assert "&lt;script&gt;" in html


def test_html_of_a_large_plan_is_short() -> None:
    many = [Subtask(id=str(n), task="?" * 900, depends_on=["0"]) for n in range(1, 500)]
    last = Subtask(id="z", task="?", role="generate", depends_on=[one.id for one in many])
    html = to_html(Plan(subtasks=[Subtask(id="0", task="?", role="explain"), *many, last]))
    assert len(html) < 40_000
    assert "441 more" in html
