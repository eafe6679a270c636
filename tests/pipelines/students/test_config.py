"""A training without stages is written as before there were any; one with stages reads back as it was."""

from pipelines.students.config import DistillConfig


def test_without_stages_nothing_of_them_is_written():
    assert "stages" not in DistillConfig().model_dump(mode="json")
    assert DistillConfig().training_stages() == [DistillConfig()]


def test_a_config_with_stages_reads_back_and_says_only_what_differs():
    config = DistillConfig(seed=4, stages=[{"seed": 4, "info_nce": 0.5}])

    assert config.model_dump(mode="json")["stages"] == [{"name": "stage_1", "info_nce": 0.5}]
    assert DistillConfig.model_validate_json(config.model_dump_json()) == config
    assert DistillConfig(**dict(config)) == config


def test_what_is_changed_for_all_stages_reaches_those_without_their_own():
    config = DistillConfig(stages=[{"precision": "float32"}, {"info_nce": 0.5}])

    resolved = config.model_copy(update={"precision": "bf16", "query_prompt": "q: "})

    stages = resolved.training_stages()
    assert [stage.precision for stage in stages] == ["float32", "bf16"]
    assert [stage.query_prompt for stage in stages] == ["q: ", "q: "]
    assert DistillConfig(stages=[{"vectors": 1.0}, {}]).needs_vectors()
    assert not DistillConfig(vectors=1.0, stages=[{"vectors": 0.0}]).needs_vectors()
