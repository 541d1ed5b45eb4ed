"""Job files: what they become, and how their mistakes are reported."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

from distgrad.coordinator.training.job import Job, describe, on_members, open_job, with_workers
from distgrad.coordinator.training.specs import (
    CheckpointSpec,
    ClusterSpec,
    DataSpec,
    EvaluationSpec,
    OptimizerSpec,
    PipelineSpec,
    ShardSpec,
)
from distgrad.coordinator.training.stages import Stage
from distgrad.errors import ConfigError

TOP = Path(__file__).parents[3]
DIGITS = TOP / "deploy" / "jobs" / "digits.toml"

SMALL = """\
name = "small"
steps = 10

[cluster]
workers = 2
programs = "programs"

[[shard]]
name = "a"
program = "mlp.py:Stage"

[[shard]]
name = "b"
program = "mlp.py:Classifier"
worker = "w1"
config = { inputs = 4 }

[pipeline]
forward = ["a.forward", "b.loss"]

[optimizer]
kind = "Adam"

[data]
program = "digits.py:Digits"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "small.toml").write_text(SMALL)
    return tmp_path / "small.toml"


def edited(path: Path, *edits: tuple[str, str]) -> Path:
    text = path.read_text()
    for old, new in edits:
        assert old in text
        text = text.replace(old, new, 1)
    path.write_text(text)
    return path


def mistakes(path: Path, *overrides: str) -> list[str]:
    """The lines of the report, without its heading."""
    with pytest.raises(ConfigError) as caught:
        Job.load(path, overrides)
    heading, *lines = str(caught.value).splitlines()
    assert heading == f"{path} has {len(lines)} mistake{'s' if len(lines) > 1 else ''}:"
    assert all(line.startswith("  ") for line in lines)
    return [line[2:] for line in lines]


def test_the_digits_job_is_what_its_file_says() -> None:
    stages = Stage("stem", "forward"), Stage("hidden", "forward")
    assert Job.load(DIGITS) == Job(
        name="digits",
        seed=0,
        steps=800,
        microbatches=2,
        cluster=ClusterSpec(("w0", "w1", "w2"), TOP / "workers", blas_threads=1),
        shards=(
            ShardSpec("stem", "mlp.py:Stage", "w0", {"inputs": 64, "outputs": 64}),
            ShardSpec("hidden", "mlp.py:Stage", "w1", {"inputs": 64, "outputs": 32}),
            ShardSpec("head", "mlp.py:Classifier", "w2", {"inputs": 32, "outputs": 10, "smoothing": 0.1}),
        ),
        pipeline=PipelineSpec((*stages, Stage("head", "loss")), (*stages, Stage("head", "predict"))),
        optimizer=OptimizerSpec("Adam", {"lr": 4e-3}, clip_norm=0.0),
        data=DataSpec("digits.py:Digits", {"batch": 64}),
        evaluation=EvaluationSpec(every=100),
        checkpoint=CheckpointSpec(TOP / "runs" / "digits", every=100, keep=3),
    )


def test_every_key_of_the_digits_job_is_explained_where_it_first_appears() -> None:
    explained = set()
    table = ""
    for line in DIGITS.read_text().splitlines():
        table = line if line.startswith("[") else table
        if match := re.match(r"\w+ = ", line):
            assert (table, match[0]) in explained or "  # " in line, line
            explained.add((table, match[0]))
    assert len(explained) > 15


def test_every_key_that_a_job_may_have_is_explained_by_the_digits_job() -> None:
    text = DIGITS.read_text()
    # The last word of each path, but for what a class's own keyword arguments are called.
    shown = [line.split(" = ")[0] for line in describe(Job.load(DIGITS)).splitlines()]
    keys = {path.rpartition(".")[2] for path in shown if ".config." not in path and ".settings." not in path}
    assert [key for key in sorted(keys) if not re.search(rf"^(# )?{key} = ", text, re.MULTILINE)] == []


def test_the_overrides_that_the_digits_job_suggests_work() -> None:
    (suggested,) = re.findall(r"--workers (\d+) --set (\S+) --set (\S+)", DIGITS.read_text())
    job = with_workers(Job.load(DIGITS, suggested[1:]), int(suggested[0]))
    assert (len(job.cluster.workers), job.steps, job.optimizer.settings["lr"]) == (2, 100, 0.01)


def test_what_is_left_out_has_its_default(path: Path) -> None:
    job = Job.load(path)
    assert (job.seed, job.microbatches, job.evaluation, job.checkpoint) == (0, 1, None, None)
    assert job.cluster == ClusterSpec(("w0", "w1"), path.parent / "programs", 1)
    assert job.shards[0] == ShardSpec("a", "mlp.py:Stage", None, {})
    assert job.pipeline.evaluate == ()
    assert job.optimizer == OptimizerSpec("Adam")


def test_a_job_cannot_be_changed(path: Path) -> None:
    job = Job.load(path)
    with pytest.raises(FrozenInstanceError):
        job.steps = 3  # type: ignore[misc]


def test_relative_paths_start_from_the_file_wherever_it_is_read_from(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent.parent)
    relative = path.relative_to(path.parent.parent)
    assert Job.load(relative).cluster.programs == path.parent / "programs"
    edited(path, ('"programs"', '"/elsewhere"'))
    assert Job.load(relative).cluster.programs == Path("/elsewhere")


@pytest.mark.parametrize(
    ("old", "new", "mistake"),
    [
        ("steps = 10", "", "small.toml  steps: missing; expected an integer, at least 1"),
        ("steps = 10", "steps = 0", "small.toml:2  steps = 0: expected an integer, at least 1"),
        ("steps = 10", 'steps = "10"', 'small.toml:2  steps = "10": expected an integer, at least 1'),
        ("steps = 10", "steps = 10\nsede = 1", "small.toml:3  sede: unknown key; did you mean 'seed'?"),
        (
            "steps = 10",
            "steps = 10\norigins = 1",
            "small.toml:3  origins: unknown key; allowed here: name, steps, cluster, ",
        ),
        ("steps = 10", "steps = 10\nseed = -1", "small.toml:3  seed = -1: expected an integer, from 0 to 2**64 - 1"),
        (
            "workers = 2",
            "workers = 0",
            "small.toml:5  cluster.workers = 0: expected a number from 1 to 1000",
        ),
        ("workers = 2", "workers = true", "small.toml:5  cluster.workers = true: expected a number from 1 to 1000"),
        ("workers = 2", "workers = []", "small.toml:5  cluster.workers = []: expected a number from 1 to 1000"),
        (
            "workers = 2",
            'workers = ["w1", "w1"]',
            'small.toml:5  cluster.workers = ["w1", "w1"]: the name \'w1\' is given 2 times',
        ),
        (
            "workers = 2",
            'workers = ["w1", "trainer"]',
            'small.toml:5  cluster.workers = ["w1", "trainer"]: another process of the cluster has the name',
        ),
        (
            'worker = "w1"',
            'worker = "w2"',
            'small.toml:15  shard.b.worker = "w2": not a worker of the cluster; its workers: w0, w1',
        ),
        ('worker = "w1"', 'wroker = "w1"', "small.toml:15  shard.b.wroker: unknown key; did you mean 'worker'?"),
        ('name = "a"', 'name = "b"', "small.toml:8  shard.b: 2 shards have this name: small.toml:8, small.toml:12"),
        ('name = "a"', 'name = "a.x"', 'small.toml:9  shard.a.x.name = "a.x": expected text in quotes, a letter, then'),
        (
            "mlp.py:Stage",
            "mlp:Stage",
            'small.toml:10  shard.a.program = "mlp:Stage": expected text in quotes, "FILE.py:',
        ),
        (
            '"b.loss"',
            '"b"',
            'small.toml:19  pipeline.forward.1 = "b": expected "SHARD.METHOD" or "SHARD.METHOD(ARGUMENT, ...)"',
        ),
        (
            '"b.loss"',
            '"c.loss"',
            "small.toml:19  pipeline.forward.1 = \"c.loss\": there is no shard 'c'; shards: a, b",
        ),
        ('["a.forward", "b.loss"]', "[]", "small.toml:19  pipeline.forward = []: expected a list, each item"),
        (
            '["a.forward", "b.loss"]',
            '"b.loss"',
            'small.toml:19  pipeline.forward = "b.loss": expected a list, each item',
        ),
        ("config = { inputs = 4 }", "config = 4", "small.toml:16  shard.b.config = 4: expected a table"),
        (
            'kind = "Adam"',
            'kind = "Adam"\nclip_norm = -1',
            "small.toml:23  optimizer.clip_norm = -1: expected a number, at least 0",
        ),
        ("[optimizer]\nkind", "[optimiser]\nkind", "small.toml  optimizer: missing; expected a table"),
        (
            "workers = 2",
            'workers = 2\nlossy_gradients = "zip"',
            'small.toml:6  cluster.lossy_gradients = "zip": expected text in quotes, bf16, fp16, int8, or empty',
        ),
        ("[data]", "[checkpoint]\n[data]", "small.toml:24  checkpoint.every: missing; expected an integer, at least 1"),
    ],
)
def test_a_mistake_is_reported_with_line_path_value_and_what_is_allowed(
    path: Path, old: str, new: str, mistake: str
) -> None:
    assert any(line.startswith(mistake) for line in mistakes(edited(path, (old, new))))


def test_all_mistakes_are_reported_together_in_the_order_of_the_file(path: Path) -> None:
    edited(
        path,
        ("steps = 10", "stepz = 10"),
        ("workers = 2", "workers = 2\nblas_threads = true"),
        ('worker = "w1"', 'worker = "w7"'),
        ('forward = ["a.forward", "b.loss"]', 'forward = ["a.forward",\n  "bb.loss", 3]'),
    )
    assert [line.split(":")[0] + ":" + line.split(":")[1].split(" ")[0] for line in mistakes(path)] == [
        "small.toml  steps:",
        "small.toml:2",
        "small.toml:6",
        "small.toml:16",
        "small.toml:20",
        "small.toml:20",
    ]


def test_shards_without_a_readable_name_do_not_confuse_the_report(path: Path) -> None:
    edited(path, ('name = "a"', 'name = ["a"]'))
    found = mistakes(path, "shard.b.config.inputs=3")
    assert found == [
        "small.toml:9  shard.0.name = [\"a\"]: expected text in quotes, a letter, then letters, digits, '-' or '_'",
        "small.toml:19  pipeline.forward.0 = \"a.forward\": there is no shard 'a'; shards: b",
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"name = \n", r"small\.toml is not TOML: Invalid value \(at line 1"),
        (b"\xff\xfe", r"small\.toml is not a text in UTF-8"),
    ],
)
def test_what_is_no_toml_is_refused_with_the_place(path: Path, content: bytes, words: str) -> None:
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        Job.load(path)


def test_a_missing_file_is_guessed(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"smal\.toml cannot be read: No such file.*did you mean 'small\.toml'\?"):
        Job.load(path.with_name("smal.toml"))


def test_overrides_replace_values_and_are_checked_like_the_file(path: Path) -> None:
    job = Job.load(path, ["steps=20", "shard.a.config.outputs=8", "optimizer.settings.lr=0.01", "evaluation.every=5"])
    assert job.steps == 20
    assert job.shards[0].config == {"outputs": 8}
    assert job.optimizer.settings == {"lr": 0.01}
    assert job.evaluation == EvaluationSpec(5)
    assert mistakes(path, "steps=none", "stps=3", "shard.c.config.x=1", "steps") == [
        "--set  shard.c.config.x=1: no shard is named 'c'",
        '--set  steps = "none": expected an integer, at least 1',
        "--set  steps: expected KEY.KEY=VALUE",
        "--set  stps: unknown key; did you mean 'steps'?",
    ]


def test_a_schedule_is_one_of_those_there_are_and_warms_up_if_it_can(path: Path) -> None:
    pipeline = Job.load(path, ["pipeline.schedule=zero-bubble", "pipeline.warm_up=0"]).pipeline
    assert (pipeline.schedule, pipeline.warm_up) == ("zero-bubble", 0)
    assert mistakes(path, "pipeline.schedule=dapple", "pipeline.warm_up=-1") == [
        '--set  pipeline.schedule = "dapple": expected text in quotes, one of gpipe, 1f1b, interleaved, zero-bubble',
        "--set  pipeline.warm_up = -1: expected an integer, at least 0",
    ]
    assert mistakes(path, "pipeline.schedule=gpipe", "pipeline.warm_up=1") == [
        "--set  pipeline.warm_up: the schedule 'gpipe' admits all microbatches at once"
    ]


@pytest.mark.parametrize("name", sorted(path.name for path in DIGITS.parent.glob("*.toml")))
def test_the_tables_of_a_job_make_the_same_job(name: str) -> None:
    job = Job.load(DIGITS.parent / name)
    assert Job.of(**json.loads(json.dumps(job.tables()))) == job


def test_what_happens_now_and_then_happens_at_the_end_of_a_round_of_trainers(path: Path) -> None:
    changes = ["trainers=3", "evaluation.every=2", "checkpoint.every=4", "checkpoint.directory=runs"]
    assert mistakes(path, *changes) == [
        "--set  checkpoint.every: expected a multiple of trainers = 3",
        "--set  evaluation.every: expected a multiple of trainers = 3",
        "small.toml:2  steps: expected a multiple of trainers = 3",
    ]


@pytest.mark.parametrize(
    ("changes", "mistake"),
    [
        (["optimizer.kind=Adm"], "small.toml:21  optimizer: there is no optimizer 'Adm'; there are"),
        (["optimizer.settings.rate=1"], "small.toml:21  optimizer: Adam has no setting 'rate'; it has lr"),
        (["optimizer.kind=SGD"], "small.toml:21  optimizer: its settings or those of its schedule are refused: .*'lr'"),
        (["optimizer.schedule.kind=Cosin"], "small.toml:21  optimizer: there is no schedule 'Cosin'; there are"),
        (["optimizer.schedule.kind=Cosine"], "small.toml:21  optimizer: its settings or .* refused: .*'total'"),
        (["data={}"], "--set  data: expected either a program, or methods of shards as inputs and targets"),
        (["data.inputs=a.x", "data.targets=b.y"], "small.toml:24  data: expected either a program, or methods"),
        (["data={ inputs = 'a.x' }"], "--set  data: inputs and targets go together, found only one"),
        (["data={ inputs = 'a.x', targets = 'c.y' }"], "--set  data.targets = \"c.y\": there is no shard 'c'"),
        (["evaluation={ every = 1, inputs = 'a.x' }"], "--set  evaluation: inputs and targets are methods of the sh"),
        (
            ["data={ inputs = 'a.x', targets = 'b.y' }", "evaluation={ every = 1 }"],
            "--set  evaluation: inputs and targets are methods of the shards that hold the data",
        ),
        (
            [
                "data={ inputs = 'a.x', targets = 'b.y' }",
                "evaluation={ every = 1, inputs = 'a.z', targets = 'b.z' }",
                "pipeline.evaluate=['a.forward']",
            ],
            "--set  pipeline.evaluate: shards hold the targets, so the last stage must take `targets`",
        ),
    ],
)
def test_what_does_not_go_together_is_a_mistake(path: Path, changes: list[str], mistake: str) -> None:
    (found,) = mistakes(path, *changes)
    assert re.match(mistake, found), found


def test_the_learning_rate_follows_its_schedule(path: Path) -> None:
    schedule = "optimizer.schedule={ kind = 'Product', schedules = [{ kind = 'LinearWarmup', steps = 4 }] }"
    spec = Job.load(path, ["optimizer.settings.lr=0.5", schedule]).optimizer
    assert [spec.learning_rate(step) for step in range(6)] == [0.0, 0.125, 0.25, 0.375, 0.5, 0.5]
    assert Job.load(path).optimizer.learning_rate(7) == Job.load(path).optimizer.rule().lr


# ---- made in Python --------------------------------------------------------------------------------------------------


def test_a_job_made_in_python_is_the_one_of_the_file(path: Path) -> None:
    tables = tomllib.loads(path.read_text())
    tables["cluster"]["programs"] = path.parent / "programs"
    made = Job.of(**tables)
    assert made == Job.load(path)
    assert "steps = 10" in describe(made)
    assert re.search(r"^steps = 10 +# Python$", describe(made), re.MULTILINE)


def test_where_the_workers_are_there_already_the_cluster_may_be_left_out(path: Path) -> None:
    tables = tomllib.loads(path.read_text())
    del tables["cluster"], tables["data"]
    made = Job.of(**tables)
    assert (made.cluster.workers, made.data) == (("w1",), None)


def test_mistakes_of_a_job_made_in_python_are_reported_alike() -> None:
    with pytest.raises(ConfigError) as caught:
        Job.of(name="x", steps=0, shard=[], pipeline={"forward": ["a.f"]}, optimizer={"kind": "Adam"}, stps=1)
    assert str(caught.value).splitlines() == [
        "Job.of() has 4 mistakes:",
        "  Python  pipeline.forward.0 = \"a.f\": there is no shard 'a'; shards: ",
        "  Python  shard = []: expected a list, each item a table, at least one",
        "  Python  steps = 0: expected an integer, at least 1",
        "  Python  stps: unknown key; did you mean 'steps'?",
    ]


def test_the_description_shows_every_value_with_its_origin(path: Path) -> None:
    job = Job.load(path, ["optimizer.settings.lr=0.01", "shard.b.config={ inputs = 5, bias = { on = true } }"])
    shown = dict(line.split(" = ", 1) for line in describe(job).splitlines())
    shown = {key: re.sub(r" +#", "  #", value) for key, value in shown.items()}
    assert shown == {
        "name": '"small"  # small.toml:1',
        "steps": "10  # small.toml:2",
        "cluster.workers": '["w0", "w1"]  # small.toml:5',
        "cluster.programs": f'"{path.parent / "programs"}"  # small.toml:6',
        "cluster.blas_threads": "1  # default",
        "cluster.lossy_values": '""  # default',
        "cluster.lossy_gradients": '""  # default',
        "shard.a.name": '"a"  # small.toml:9',
        "shard.a.program": '"mlp.py:Stage"  # small.toml:10',
        "shard.a.worker": "none  # default",
        "shard.a.config": "{}  # default",
        "shard.a.recompute": "false  # default",
        "shard.b.name": '"b"  # small.toml:13',
        "shard.b.program": '"mlp.py:Classifier"  # small.toml:14',
        "shard.b.worker": '"w1"  # small.toml:15',
        "shard.b.config.inputs": "5  # --set",
        "shard.b.config.bias.on": "true  # --set",
        "shard.b.recompute": "false  # default",
        "pipeline.forward": '["a.forward", "b.loss"]  # small.toml:19',
        "pipeline.evaluate": "[]  # default",
        "pipeline.sample": "[]  # default",
        "pipeline.schedule": '"zero-bubble"  # default',
        "pipeline.warm_up": "none  # default",
        "optimizer.kind": '"Adam"  # small.toml:22',
        "optimizer.settings.lr": "0.01  # --set",
        "optimizer.schedule": "{}  # default",
        "optimizer.clip_norm": "0.0  # default",
        "data.program": '"digits.py:Digits"  # small.toml:25',
        "data.config": "{}  # default",
        "data.inputs": "none  # default",
        "data.targets": "none  # default",
        "microbatches": "1  # default",
        "replicas": "1  # default",
        "trainers": "1  # default",
        "seed": "0  # default",
        "evaluation": "none  # default",
        "checkpoint": "none  # default",
        "recovery.max_failures": "10  # default",
        "recovery.replicate": "false  # default",
        "recovery.patience_seconds": "30.0  # default",
        "metrics.directory": "none  # default",
        "metrics.tensorboard": "false  # default",
        "limits.join_seconds": "30.0  # default",
        "limits.silence_seconds": "3.0  # default",
        "limits.call_depth": "1000  # default",
        "limits.transfer_bytes": "17179869184  # default",
    }


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, ["w0", "w0", "w0"]), (2, ["w0", "w1", "w0"]), (3, ["w0", "w1", "w2"]), (4, ["w0", "w1", "w2"])],
)
def test_shards_wrap_around_on_another_number_of_workers(count: int, expected: list[str]) -> None:
    job = Job.load(DIGITS)
    moved = with_workers(job, count)
    assert moved.cluster.workers == tuple(f"w{number}" for number in range(count))
    assert [shard.worker for shard in moved.shards] == expected
    assert f"cluster.workers = {list(moved.cluster.workers)}".replace("'", '"') in describe(moved)
    assert describe(moved).count(f"# --workers {count}") == 4
    same = {field.name for field in fields(Job)} - {"cluster", "shards", "origins"}
    assert all(getattr(moved, name) == getattr(job, name) for name in same)


def test_a_shard_that_any_worker_may_hold_stays_so(path: Path) -> None:
    moved = with_workers(Job.load(path), 1)
    assert [shard.worker for shard in moved.shards] == [None, "w0"]


def test_no_workers_at_all_is_refused(path: Path) -> None:
    with pytest.raises(ConfigError, match="--workers 0: expected at least 1"):
        with_workers(Job.load(path), 0)


def test_more_workers_than_a_cluster_can_have_are_refused(path: Path) -> None:
    with pytest.raises(ConfigError, match="1001 workers: a cluster has at most 1000"):
        with_workers(Job.load(path), 1001)
    with pytest.raises(ConfigError, match=r"cluster\.workers = 1001: expected a number from 1 to 1000"):
        open_job(path, ["cluster.workers=1001"])


def test_a_job_on_members_is_the_same_but_for_where_its_shards_live() -> None:
    job = open_job(TOP / "deploy" / "jobs" / "digits.toml")
    moved = on_members(job, {"w0": "a", "w1": "b", "w2": "c"})
    assert moved.cluster.workers == ("a", "b", "c")
    assert [shard.worker for shard in moved.shards] == ["a", "b", "c"]
    assert on_members(moved, {"a": "w0", "b": "w1", "c": "w2"}) == job
