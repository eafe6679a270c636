"""The page as a program, a screen reader and an attacker meet it: its figures are SQL's, it runs and loads nothing."""

import base64
import hashlib
import itertools
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.inspection.queries import ask
from pipelines.report.gather import gather
from pipelines.report.page import SECTIONS, render
from pipelines.report.subject import Subject
from pipelines.stage.errors import UserError
from tests.reported import JUDGE, MODEL, OTHER, Page, reported

MOST_BYTES = 2_000_000
SQL = {  # figure, key -> the same by SQL over the tables as they are
    ("kept_rows", ""): "SELECT count(*) FROM curated_triplets WHERE correction IS NULL",
    ("corrected_rows", ""): "SELECT count(*) FROM curated_triplets WHERE correction IS NOT NULL",
    ("dropped_rows", ""): "SELECT count(*) FROM dropped_triplets",
    ("rows", ""): f"SELECT count(*) FROM scored_triplets WHERE teacher = '{JUDGE}'",
    ("sources", ""): "SELECT count(DISTINCT source) FROM triplets",
    ("source_rows", "rotten"): "SELECT count(*) FROM triplets WHERE source = 'rotten'",
    (
        "source_kept_rows",
        "mixed",
    ): ("SELECT count(*) FROM curated_triplets WHERE source = 'mixed' AND correction IS NULL"),
    ("source_dropped_rows", "rotten"): "SELECT count(*) FROM dropped_triplets WHERE source = 'rotten'",
    ("reason_rows", "teacher_prefers_negative"): (
        "SELECT count(*) FROM dropped_triplets WHERE drop_reason = 'teacher_prefers_negative'"
    ),
    ("reason_rows", "swapped"): "SELECT count(*) FROM curated_triplets WHERE correction = 'swapped'",
    ("split_rows", "test"): "SELECT count(*) FROM curated_triplets WHERE split = 'test'",
    ("positive_score_mean", OTHER): f"SELECT avg(positive_score) FROM scored_triplets WHERE teacher = '{OTHER}'",
    ("contradicted_rows", JUDGE): (
        f"SELECT count(*) FROM scored_triplets WHERE teacher = '{JUDGE}' AND positive_score < negative_score"
    ),
    ("tokens_cut", "mixed"): (
        "SELECT sum(positive_tokens_cut + negative_tokens_cut) FROM scored_triplets "
        f"WHERE source = 'mixed' AND teacher = '{JUDGE}'"
    ),
    ("ndcg_at_10", f"curated_triplets@1/test / {MODEL} / 2"): (
        f"SELECT avg(value) FROM evaluations WHERE metric = 'nDCG@10' AND dimension = 2 AND model_id = '{MODEL}'"
    ),
    ("headline_queries", ""): "SELECT count(DISTINCT query_id) FROM evaluations",
}
HOSTILE = (
    "</script><script>alert(1)</script><img src=x onerror=alert(2)>",
    "javascript:alert(3) {{ 7 * 7 }} {% raw %} ${x}",
    "\u202eevil\u202c \u2066isolate\u2069 \u200bzero\u200d\ufeff",
    "nul\x00 bell\x07 escape\x1b[31m \x85 \ue000 \u2028",
    "]]> &lt; &#x3c; <!-- --> ' \" ` = \\",
    "Z\u0351\u0352\u0353\u0354\u0355\u0356\u0357\u0358algo",
    "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    "w" * 100_000,
)
OUR_TAGS = set(
    "html head meta title style body header h1 h2 h3 h4 nav a main section p data bdi span div table caption thead "
    "tbody tr th td figure figcaption svg g path line text tspan defs rect clippath strong code article dl dt dd "
    "ul li footer".split()
)
RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ue000-\uf8ff]")


@pytest.fixture(scope="module")
def page(root):
    return root.page(against=True)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """Every text, source and file name is hostile, the root too; names of models and stages as far as they may be."""
    number = iter(range(10_000_000))
    named = {}

    def text(plain):
        return named.setdefault(plain, f"{HOSTILE[next(number) % len(HOSTILE)]} {plain}")

    root = tmp_path_factory.mktemp("hostile") / "<img src=x onerror=alert(4)> & \"'root"
    return reported(root, 24, text).page(against=True)


@pytest.mark.parametrize("name", ["evaluations", "models"])
def test_a_small_table_that_is_damaged_costs_its_own_part_of_the_page_alone(name, tmp_path):
    root = reported(tmp_path)
    (file,) = Path(root.tables.path(name)).glob("*.parquet")
    file.write_bytes(b"PAR1" + bytes(file.stat().st_size - 12) + file.read_bytes()[-8:])
    page = root.page()

    what = {"evaluations": "What models are worth", "models": "Which models were trained"}[name]
    assert f"{what} cannot be read any more: {name}@0 has a damaged data file, {file} (" in page.text
    assert page.figures["rows", ""] == 120
    assert not any(figure == "ndcg_at_10" for figure, _ in page.figures)


@pytest.mark.parametrize("figure", SQL, ids=" ".join)
def test_a_figure_of_the_page_is_what_sql_says_of_the_tables(root, page, figure):
    assert page.figures[figure] == pytest.approx(ask(root.tables, SQL[figure]).item(), rel=1e-6)
    assert page.figures[figure] > 0


def test_the_summary_names_the_rotten_source_the_commonest_reason_and_the_price_of_smaller_vectors(page):
    summary = page.text[: page.text.index("What the teacher said", page.text.index("has judged"))]

    assert "The source that stands out is rotten: only 0.0% of its 40 rows" in summary
    assert "The commonest reason to drop a row is teacher_prefers_negative" in summary
    assert "The price of 2 instead of 4 dimensions is -0.0" in summary
    assert f"The model {MODEL} reaches nDCG@10" in summary
    assert re.search(r"for 50.0% of a vector's bytes\. Against BM25 it is then [+-]0\.\d{3} \(p [<=] ", summary)


def test_the_rules_are_told_with_their_thresholds_where_a_curation_went_by_them(root):
    report = gather(Subject.find(root.tables, root.curated))
    swapping = "swap_margin (0.5) and scores relevant_from (0) or more, the positive less than irrelevant_below (0)"

    def told(**changes):
        return render(report._replace(subject=replace(report.subject, **changes)))

    assert swapping in told()
    assert swapping not in told(swaps=False)
    assert "(curate.ask_teacher was false)" in told(asks_teacher=False)
    assert "min_teacher_margin (0.5)" not in told(asks_teacher=False)


def test_rows_that_became_no_triplets_are_counted_where_there_are_some(root, page):
    report = gather(Subject.find(root.tables, root.curated))

    assert "quarantined_rows" not in page.source
    assert 'data-figure="quarantined_rows">1,234</data> rows of the input' in render(report._replace(quarantined=1_234))


def test_headings_follow_each_other_and_every_table_and_picture_has_a_name(page):
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert len(page.of("table")) == len(page.of("caption")) > 8
    assert {th.get("scope") for th in page.of("th")} == {"col", "row"}
    pictures = page.of("svg")
    assert len(pictures) > 12
    assert [svg["role"] for svg in pictures] == ["img"] * (len(pictures) - 1) + ["group"]  # the last has links
    assert all(svg["aria-label"] for svg in pictures)
    assert page.source.count("<figcaption>") == len(pictures)
    assert not re.search(r"<figcaption>\s*</figcaption>", page.source)


def test_ids_are_unique_and_links_lead_within_the_page(page):
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    regions = [div["aria-label"] for div in page.of("div") if div.get("role") == "region"]

    assert len(set(ids)) == len(ids)
    assert len(set(regions)) == len(regions)
    assert {f"#{one}" for one in ids} >= {a["href"] for a in page.of("a")}


def test_every_version_and_model_leads_to_the_command_that_prints_it(root, page):
    commands = dict(re.findall(r'<code class="command" id="([^"]+)"><bdi[^>]*>(.*?)</bdi></code>', page.source))
    picture = next(part for part in page.source.split("<svg ") if 'aria-label="From files to weights"' in part)

    assert set(commands) >= {"triplets@0", "curated_triplets@0", "curated_triplets@1", "dropped_triplets@1", MODEL}
    assert commands[MODEL] == f"python -m jobs history models@0 --tables {root.tables.uri}"
    assert set(re.findall(r'<a href="#([^"]+)"><text', picture)) == set(commands)
    for shown in ("Report on curated_triplets@1", "Against curated_triplets@0", f"The model {MODEL}"):
        assert shown in page.text
        before, _, name = shown.rpartition(" ")
        assert re.search(rf'{before} <a href="#{name}"><bdi[^>]*>{name}</bdi></a>', page.source), shown


@pytest.mark.parametrize("of", ["page", "hostile"])
def test_it_loads_and_runs_nothing_and_forbids_it(request, of):
    page = request.getfixturevalue(of)
    attributes = {name for _, given in page.tags for name in given}
    policy = next(meta["content"] for meta in page.of("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    style = re.search(r"<style>(.*?)</style>", page.source, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()

    assert {tag for tag, _ in page.tags} <= OUR_TAGS
    assert not {name for name in attributes if name.startswith("on")} | attributes & {
        "src",
        "style",
        "action",
        "srcset",
    }
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert not re.search(r"url\((?!#)|@import", page.source)
    assert len(page.source.encode()) < MOST_BYTES


def test_hostile_texts_are_shown_and_every_hidden_character_is_visible(hostile):
    assert not RAW.search(hostile.source)
    for shown in (
        "<script>alert(1)</script>",
        "onerror=alert(2)",
        "javascript:alert(3) {{ 7 * 7 }}",
        "&lt; &#x3c; <!--",
    ):
        assert shown in hostile.text
    assert "U+202Eevil" in hostile.text
    assert "nulU+0000 bellU+0007 escapeU+001B[31m" in hostile.text
    assert "שלום" in hostile.text
    assert "more characters" in hostile.text
    assert "w" * 3_000 not in hostile.source


def test_without_a_model_the_sections_on_data_stand_and_the_others_say_what_to_do(tmp_path):
    page = reported(tmp_path, with_model=False).page()

    assert "python -m jobs distill --recipe RECIPE --from curated_triplets@1 --name NAME" in page.text
    assert page.figures["reason_rows", "swapped"] > 0
    shown = [attributes["id"] for tag, attributes in page.tags if tag == "section"]
    assert shown == ["summary", "scores", "sources", "reasons", "agreement", "lengths", "lineage", "absent"]
    assert [f"#{one}" for one in shown] == [a["href"] for a in page.of("a") if a["href"][1:] in SECTIONS]
    absent = page.source[page.source.index('<section id="absent"') :]
    assert re.findall("<li>(.*?):", absent) == ["What moved", "Training and quality", "Query by query"]


def test_what_a_model_was_not_compared_with_is_told_with_the_command_that_measures_it(root, page, measured):
    compare = """--set 'evaluate.compare_with=["teacher", "untrained", "bm25"]'"""
    told = "The untrained student was not measured here, so how far the model is from it is not known: "

    assert measured.lacking == {"untrained": ""}
    assert f"{told}python -m jobs evaluate --model small --on curated_triplets@1 {compare} --tables" in page.text
    report = gather(Subject.find(root.tables, root.curated))
    of_folder = measured._replace(data_set="beir/pets@0123", not_measured={"untrained": "its parent is gone"})
    source = Page(render(report._replace(measured=[of_folder]))).text
    assert "The untrained student (its parent is gone) was not measured here" in source
    assert "python -m jobs evaluate --model small --beir FOLDER" in source
    as_ingested = "by what was ingested as right, before any correction"
    assert as_ingested in page.text
    assert as_ingested not in source


def test_where_scores_and_dropped_rows_are_gone_the_page_says_so(tmp_path):
    root = reported(tmp_path)
    for table in ("scored_triplets", "dropped_triplets"):
        for file in Path(root.tables.path(table)).glob("*.parquet"):
            file.unlink()
    page = root.page()

    assert "What the teacher said cannot be read any more: scored_triplets@" in page.text
    assert "What was dropped can only be counted, not shown: dropped_triplets@1" in page.text
    assert page.figures["dropped_rows", ""] > 0  # as the curation reported
    assert "Its rows cannot be read any more." in page.text


@pytest.mark.parametrize(
    ("table", "told"), [("models", "Which models were trained"), ("evaluations", "What models are worth")]
)
def test_where_models_or_their_figures_are_gone_the_rest_of_the_page_is_there(tmp_path, table, told):
    root = reported(tmp_path, 4)
    for file in Path(root.tables.path(table)).glob("*.parquet"):
        file.unlink()

    page = root.page()
    assert f"{told} cannot be read any more: no version of {table} can be used: {table}@0 lacks" in page.text
    assert page.figures["kept_rows", ""] > 0
    assert not any(figure == "ndcg_at_10" for figure, _ in page.figures)


def test_another_models_name_is_refused_with_those_there_are(root):
    with pytest.raises(UserError, match=r"there is no model 'none' .*found: small"):
        root.page(models=("none",))


@pytest.fixture
def chromium():
    """Debian's, by Playwright's Python package."""
    if not shutil.which("chromium"):
        pytest.skip("there is no chromium on this machine: apt-get install chromium")
    browser = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    with browser.sync_playwright() as play:
        yield play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])


def opened(page, tmp_path):
    """The page as a file of its own."""
    (tmp_path / "report.html").write_text(page.source, encoding="utf-8")
    return (tmp_path / "report.html").as_uri()


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 1024])
@pytest.mark.parametrize("of", ["page", "hostile"])
def test_a_browser_shows_it_without_a_message_a_request_or_a_scroll_bar(request, chromium, tmp_path, of, width):
    heard = []
    tab = chromium.new_page(viewport={"width": width, "height": 800})
    for event in ("console", "pageerror", "dialog", "request"):
        tab.on(event, lambda what: heard.append(what))  # playwright takes no builtin
    tab.goto(opened(request.getfixturevalue(of), tmp_path))

    assert tab.evaluate("document.documentElement.scrollWidth") == width
    assert len(heard) == 1  # the page itself


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("of", ["page", "hostile"])
def test_axe_finds_no_fault_of_accessibility(request, chromium, tmp_path, of, scheme):
    why = "axe is not installed: pip install axe-playwright-python"
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason=why)
    tab = chromium.new_page(color_scheme=scheme)
    tab.goto(opened(request.getfixturevalue(of), tmp_path))

    found = axe.Axe().run(tab)

    assert found.violations_count == 0, found.generate_report()
    assert len(found.response["passes"]) > 20
