"""Every command with values that nobody means: each is refused in a sentence, and nothing is changed.

Nothing here starts Ray: what is wrong is known before. Words in braces stand for the places below.
"""

import re
import shlex
import sys
from pathlib import Path
from stat import S_ISDIR

import pytest

from jobs.__main__ import COMMANDS, app
from pipelines import curate
from pipelines.curate import CurateConfig
from pipelines.storage import Tables
from tests.in_process import run_jobs
from tests.scored_versions import scored_rows, write_scored, write_triplets

LONG = "x" * 20_000
RECIPES = {  # file -> its content
    "list.toml": "score = [1, 2]",
    "text.toml": 'score = "x"',
    "types.toml": "[score]\nmax_tokens = 'many'\n[distill]\nepochs = {a = 1}",
    "unknown.toml": "[scoer]\nx = 1",
    "twice.toml": "[score]\nmax_tokens = 1\n[score]\nmax_tokens = 2",
    "numbers.toml": "[distill]\nlearning_rate = nan\nepochs = -1",
    "huge.toml": "[score]\nmax_tokens = " + "9" * 400,
    "deep.toml": "a = " + "[" * 5_000 + "]" * 5_000,
    "itself.toml": 'recipe = "itself.toml"',
    "date.toml": "[curate]\ntest_share = 2020-01-01",
    "nul.toml": '[score]\nteacher = "a\\u0000b"',
}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A root with triplets, scores and a curation, and files and folders that are no help."""
    folder = tmp_path_factory.mktemp("hostile")
    rows = scored_rows([(f"query {number}", f"good {number}", 3.0, f"bad {number}", 0.0) for number in range(12)])
    scored = write_scored(write_triplets(Tables.at(str(folder / "root")), rows), rows)
    curate.run(scored, CurateConfig(test_share=0.2))
    (folder / "bytes").write_bytes(bytes(range(256)) * 40)
    (folder / "empty").write_bytes(b"")
    (folder / "folder").mkdir()
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "good.jsonl").write_text('{"query": "a", "positive": "b", "negative": "c"}\n')
    for name, content in RECIPES.items():
        (folder / name).write_text(content)
    return {"tmp": folder, "root": folder / "root", "good": folder / "good.jsonl", "folder": folder / "folder"}


@pytest.fixture
def refused(monkeypatch, capsys, places):
    """Call a command; gives what it said, once it has said it as a refusal and changed nothing."""
    monkeypatch.chdir(places["folder"])
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def call(*words, root=places["root"]):
        monkeypatch.setenv("TABLES", str(root))
        before = contents(places["tmp"])
        code = run_jobs(*words)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        assert (code, out) == (2, ""), err
        last = err.strip().splitlines()[-1]
        assert last.lower().startswith("error: ")
        assert contents(places["tmp"]) == before
        return last

    return call


def contents(folder: Path) -> dict[str, tuple[int, int] | None]:
    """Every file's size and time; a folder is there or not."""
    found = {str(path): path.lstat() for path in folder.rglob("*")}
    return {path: None if S_ISDIR(stat.st_mode) else (stat.st_size, stat.st_mtime_ns) for path, stat in found.items()}


def words(command: str, places: dict[str, Path]) -> list[str]:
    """As a shell takes the command apart, with the places filled in."""
    filled = shlex.split(command)
    for name, value in (places | {"long": LONG}).items():
        filled = [word.replace(f"{{{name}}}", str(value)) for word in filled]
    return filled


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("words_after", ["--nothing", "--nothing=1", "-x", "--tabels x", "--no-json", "a b c d --e"])
def test_an_option_or_word_that_a_command_does_not_know_is_named(refused, command, words_after):
    told = refused(command, *words_after.split())

    assert f"`python -m jobs {command} --help`" in told
    assert "has no option --" in told or "has no option -x" in told


OPTIONS = [
    (command, argument.name)
    for command in COMMANDS
    for argument in app[command].assemble_argument_collection()
    if argument.show and argument.name.startswith("--") and argument.token_count() != (0, False)
]


@pytest.mark.parametrize(("command", "option"), OPTIONS)
def test_an_option_without_its_value_is_named_with_what_it_means(refused, command, option):
    (meant,) = (one.parameter.help for one in app[command].assemble_argument_collection() if one.name == option)

    assert f"{option} has no value; expected {meant}" in refused(command, option)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("value", ["\0", "a\0b", "\udcff"], ids=["NUL", "NUL within", "not UTF-8"])
def test_a_word_that_is_no_text_is_refused(refused, command, value):
    assert "NUL or bytes that are not UTF-8" in refused(command, value)


def test_a_root_in_the_environment_that_is_no_text_is_refused(refused):
    assert "NUL or bytes that are not UTF-8" in refused("history", root="\udcff")


CALLS = r"""
score --share 0
score --share -1
score --share nan
score --share inf
score --share -inf
score --share 1e999
score --share 1.0000001
score --share ١
score --share 1_0
score --share ''
score --share half
score --share 0x1
score --share 50%
score --share 1e-400
score --share {long}
score --dry-run=false --share 0
score --dry-run=maybe
score --vectors=2
score --from ''
score --from triplets
score --from triplets@
score --from triplets@-1
score --from triplets@1.0
score --from triplets@١
score --from triplets@99999999999999999999999
score --from @0
score --from triplets@0@0
score --from curated_triplets@0
score --from {long}
score --from {long}@0
score --from 'triplets@0 '
score --from TRIPLETS@0
score --set score.teacher={tmp}/folder
score --set score.teacher={tmp}/bytes
score --set score.teacher=5
score --set score.teacher=[1]
score --set score.teacher={long}
score --set score.teacher=a/b/c/d
score --set 'score.teacher=a b'
score --set 'score.teacher="a\u0000b"'
score --set score.max_tokens=0 
score --set score.max_tokens=-5
score --set score.max_tokens=1.5
score --set score.max_tokens=true
score --set score.max_tokens=١
score --set score.max_tokens=99999999999999999999999999
score --set score.max_tokens=nan
score --set score.teacher_kind=x
score --set score.chunk_rows=0
score --set score.commit_every_s=-1
score --set score.commit_every_s=inf
score --set score=
score --set =
score --set ''
score --set .=1
score --set score.=1
score --set .x=1
score --set ..=1
score --set score..x=1
score --set score.x.y.z=1
score --set {long}=1
score --set score.max_tokens={long}
score --set score.max_tokens=null
score --set 'score.max_tokens={a=1}'
score --set score.teacher.x=1
distill --name n --set distill.dimensions=[]
distill --name n --set distill.dimensions=[-1]
distill --name n --set distill.dimensions=x
distill --name n --set distill.learning_rate=-1
distill --name n --set distill.learning_rate=inf
distill --name n --set distill.epochs=0
distill --name n --set distill.epochs=1e400
distill --name n --set distill.num_layers=0
distill --name n --set distill.num_workers=0
distill --name n --set distill.seed=-1
distill --name ''
distill --name ..
distill --name .
distill --name a/b
distill --name /etc
distill --name ../x
distill --name 'a b'
distill --name a@b
distill --name -
distill --name --from
distill --name n --from scored_triplets@0
distill --name n --from curated_triplets@7
curate --from triplets@0
curate --from scored_triplets@99
curate --teacher nobody
curate --teacher ''
curate --teacher {long}
curate --by nothing
curate --by ''
curate --by {long}
curate --set curate.max_drop_share=2
curate --set curate.test_share=1
curate --set curate.dev_share=0.6 --set curate.test_share=0.6
curate --set curate.corrections=[1]
curate --set 'curate.corrections=["x"]'
curate --set 'curate.evaluation_sets=["/nosuch"]'
curate --set 'curate.evaluation_sets=["{tmp}/folder"]'
curate --set 'curate.evaluation_sets=["{tmp}/bytes"]'
curate --set 'curate.evaluation_sets=[""]'
curate --set curate.cross_encoder.min_teacher_margin=nan
curate --set curate.cross_encoder=1
curate --set curate.max_drop_share=0 --set curate.cross_encoder.min_teacher_margin=100
curate --dry-run=no --from x
ingest --input ''
ingest --input {tmp}/nosuch
ingest --input {tmp}/bytes
ingest --input {tmp}/empty
ingest --input {tmp}/folder
ingest --input {tmp}/loop
ingest --input {long}
ingest --input s3://bucket/x
ingest --input http://x/y
ingest --input -
ingest --input /dev/zero
ingest --input /proc/self/mem
ingest --input {good} {tmp}/nosuch
ingest --input {good} --columns x
ingest --input {good} --columns ,
ingest --input {good} --columns =
ingest --input {good} --columns a
ingest --input {good} --columns query=
ingest --input {good} --columns =q
ingest --input {good} --columns query=query,query=positive
ingest --input {good} --columns {long}
ingest --input {good} --columns query=nosuch
ingest --input {good} --columns 'query==x'
ingest --input {good} --recipe ''
ingest --input {good} --recipe {tmp}/bytes
ingest --input {good} --recipe {tmp}/folder
ingest --input {good} --recipe {tmp}/loop
ingest --input {good} --recipe {long}
ingest --input {good} --recipe /dev/null/x
ingest --input {good} --recipe {tmp}/list.toml
ingest --input {good} --recipe {tmp}/text.toml
ingest --input {good} --recipe {tmp}/types.toml
ingest --input {good} --recipe {tmp}/unknown.toml
ingest --input {good} --recipe {tmp}/twice.toml
ingest --input {good} --recipe {tmp}/numbers.toml
ingest --input {good} --recipe {tmp}/huge.toml
ingest --input {good} --recipe {tmp}/deep.toml
ingest --input {good} --recipe {tmp}/itself.toml
ingest --input {good} --recipe {tmp}/date.toml
ingest --input {good} --recipe quickstart.toml
ingest --input {good} --recipe Quickstart
ingest --input {good} --set ingest.max_text_chars=0
ingest --input {good} --set ingest.max_bad_share=-0.1
ingest --input {good} --source ''
ingest --input {good} --licence ''
ingest --input {good} --tables {tmp}/bytes
relabel
relabel --set relabel.model=m
relabel --set relabel.model=m --set relabel.endpoint=host:8000
relabel --set relabel.model=m --set relabel.endpoint=http://h/v1 --set relabel.suspect_margin.cross_encoder=-99
relabel --set relabel.judge_prompt=judge
relabel --set relabel.max_cost=1
relabel --set relabel.negatives_per_query=0
relabel --sample 5
relabel --price-per-million 1
relabel --from scored_triplets@99 --set relabel.model=m --set relabel.endpoint=http://127.0.0.1:1/v1
curate --judgements scored_triplets@0
curate --judgements passage_judgements@0
curate --set curate.judge=relabelled
curate --set curate.judge=relabel@0123456789ab
generate --input {good}
generate --input {good} --set generate.model=m
generate --input {good} --set generate.model=m --set generate.endpoint=host:8000
generate --input {good} --set generate.model=m --set generate.endpoint=http://me:secret@host/v1
generate --input {good} --set generate.model=m --set generate.endpoint=http://127.0.0.1:1/v1
generate --input {good} --set generate.api_key_variable=NO_SUCH_KEY --set generate.model=m --set generate.endpoint=http://h/v1
generate --input {good} --set 'generate.write_prompt=write'
generate --input {good} --set generate.max_cost=1
generate --input {good} --set generate.max_cost=nan
generate --input {good} --set 'generate.extra={messages = 1}'
generate --input {good} --set generate.candidates=0
generate --input {good} --price-per-million 1
generate --input {good} --price-per-million 1,nan
generate --input {good} --price-per-million=-1,1
generate --input {good} --sample 5
generate --input {good} --dry-run --sample=-1
generate --input {good} --dry-run --sample x
generate --input {tmp}/nosuch --set generate.model=m --set generate.endpoint=http://127.0.0.1:1/v1
generate --input {tmp}/bytes --set generate.model=m --set generate.endpoint=http://127.0.0.1:1/v1
generate --input {good} --columns text=nosuch --set generate.model=m --set generate.endpoint=http://127.0.0.1:1/v1
generate --input {good} --columns query=query --set generate.model=m --set generate.endpoint=http://127.0.0.1:1/v1
mine --input {tmp}/bytes
mine --input {good} --share 0.5
mine --input {good} --dry-run
mine --input {good} --dry-run --share 0
mine --input {good} --dry-run --share nan
mine --input {good} --dry-run --consistent-within 2
mine --input {good} --passages {tmp}/nosuch
mine --input {good} --passages {tmp}/bytes
mine --input {good} --passages {tmp}/folder
mine --input {tmp}/folder
mine --input {good} --set mine.negatives=0
evaluate --model ''
evaluate --model nobody
evaluate --model nobody@0
evaluate --model ..
evaluate --model a/b
evaluate --model {long}
evaluate --model n --on triplets@0
evaluate --model n --on x
evaluate --model n --on ''
evaluate --model n --beir {tmp}/nosuch
evaluate --model n --beir {tmp}/folder
publish --model '' --to {tmp}/out
publish --model n --to ''
publish --model n --to {tmp}/bytes
publish --model n --to {tmp}/folder
publish --model ../../etc --to {tmp}/out
publish --model n --to ftp://x
run --input {tmp}/bytes --name n
run --input {tmp}/nosuch --name n --mine
reproduce --model ''
reproduce --model n
reproduce --model {tmp}/folder
reproduce --model {tmp}/bytes
reproduce --model ..
reproduce --model {long}
reproduce --model a/b@x
history ''
history nosuch
history triplets@9
history triplets@x
history @
history {long}
history --downstream
history triplets --downstream
history dropped_triplets@-0
history models
diff curated_triplets@0 triplets@0
diff triplets@0 triplets@0
diff curated_triplets@0 curated_triplets@9
diff '' ''
diff curated_triplets@0
diff x y
query ''
query ';'
query 'SELECT 1; SELECT 2'
query 'INSERT INTO triplets VALUES (1)'
query 'drop table triplets'
query '/**/ DELETE FROM triplets'
query '(((DELETE FROM triplets)))'
query {long}
query 'SELECT {long} FROM triplets'
query 'SELECT * FROM nosuch'
query 'SELECT nosuch FROM triplets'
query 'SELECT * FROM triplets' --at nosuch@0
query 'SELECT * FROM triplets' --at triplets
query 'SELECT * FROM triplets' --at ''
query 'SELECT 1' --output {tmp}/folder
query 'SELECT 1' --output {tmp}/folder.csv/x.csv
query 'SELECT 1' --output {good}
query 'SELECT 1' --output ''
query 'SELECT 1' --output x.xml
query 'SELECT 1' --output {tmp}/loop
query 'SELECT 1' --output {tmp}/nosuch/x.csv
query 'SELECT 1' --output {tmp}/bytes/x.csv
query 'SELECT 1' --output .csv --json
query 'SELECT 1' --output {long}.csv
query 'SELECT CAST(query AS BLOB) FROM triplets' --json
query 'SELECT CAST(query AS INT) FROM triplets'
query 'SELECT query, query FROM triplets'
query 'SELECT frob(query) FROM triplets'
query 'SELECT'
query SELECT 1
query 'UPDATE triplets SET query = 1'
query 'CREATE TABLE x AS SELECT 1'
query 'COPY triplets TO x'
query 'EXEC x'
models --json=x
models triplets
models --tables {good}
submit --address http://127.0.0.1:1
submit --address http://127.0.0.1:1 --env A -- score
submit --address http://127.0.0.1:1 --env =x -- score
submit --address http://127.0.0.1:1 --env '' -- score
submit --address http://127.0.0.1:1 --env HF_TOKEN=abcdefgh -- score
nosuch
''
--json
score curate
{long}
-
--
run --input {good} --name n --set distill.dimensions=[0]
score --from triplets@٠
curate --from 'scored_triplets@0 x'
query 'SELECT 1' --at '*'
history --json x y
score --set a.b=[[[[[[[[1]]]]]]]]
distill --name n --set 'distill.dimensions=[1,'
evaluate --model n --set evaluate.x=1
curate --set 'curate.evaluation_sets="x"'
publish --model n
publish --to x
ingest --columns query=q
ingest --input
mine --beir x
diff --all
models --json --json x
report --to ''
report --to {tmp}/loop
report --to {tmp}/bytes
report --to {tmp}/empty
report --to {tmp}/folder
report --to {tmp}/none/report.html
report --to {tmp}/empty/report.html
report --to {long}
report --to s3://bucket/report.html
report --to {tmp}/report.html --from ''
report --to {tmp}/report.html --from nothing
report --to {tmp}/report.html --from curated_triplets@9
report --to {tmp}/report.html --from curated_triplets@-1
report --to {tmp}/report.html --from scored_triplets@0
report --to {tmp}/report.html --against triplets@0
report --to {tmp}/report.html --against ''
report --to {tmp}/report.html --model ''
report --to {tmp}/report.html --model ../x
report --to {tmp}/report.html --model {long}
submit --address '' -- score
submit --address ftp://x -- score
submit --address foo://x -- score
run --input {good} --name ''
run --input {good} --name a/b
run --input {good} --name ..
run --input {good} --name n --beir nosuch
run --input {good} --name n --beir ''
run --input {good} --name n --set score.teacher=nosuch/model
run --input {good} --name n --set score.teacher=
distill --name {long}
distill --name n --set distill.source=nosuch/model
mine --input {good} --passages ''
ingest --input {tmp}/root
ingest --input {good} --tables ~nosuch/x
reproduce --model {long}
query 'SELECT 1' --output {tmp}/loop/x.csv
""".strip().splitlines()


@pytest.mark.parametrize("call", CALLS)
def test_a_value_that_nobody_means_is_refused_in_a_sentence(refused, places, call):
    told = refused(*words(call, places))

    assert len(told) < 2_500
    assert re.search(
        r"expected|should|see `|give |there is no|has no|has the versions|nothing was written|holds|leave|lists", told
    )


def test_ray_was_not_started():
    assert "ray" not in sys.modules or not sys.modules["ray"].is_initialized()
