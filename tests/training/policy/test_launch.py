"""accelerate takes the launch files as they are: every key is one of its own, and says what the file's name says."""

import re
from importlib.resources import files
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_multi_gpu_env

LAUNCH = Path(str(files("colsearcher.training.policy") / "launch"))
NAMES = ("fsdp", "zero2", "zero3")


def launched(name):
    """The arguments that `accelerate launch --config_file NAME.yaml` goes by."""
    args = launch_command_parser().parse_args(["--config_file", str(LAUNCH / f"{name}.yaml"), "script.py"])
    return _validate_launch_command(args)[0]


def test_these_are_all():
    assert sorted(path.stem for path in LAUNCH.iterdir()) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_key_is_one_of_accelerates(name):
    config = load_config_from_file(str(LAUNCH / f"{name}.yaml"))  # refuses keys that it does not know
    assert isinstance(config, ClusterConfig) and (config.num_machines, config.num_processes) == (1, 8)
    known = {action.dest for action in launch_command_parser()._actions}
    inner = {**config.fsdp_config, **config.deepspeed_config}
    assert inner and not inner.keys() - known


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_its_name_says(name):
    args = launched(name)
    assert args.mixed_precision == "bf16" and args.num_processes == 8
    assert (args.use_fsdp, args.use_deepspeed) == (name == "fsdp", name != "fsdp")
    if name != "fsdp":
        assert args.zero_stage == int(name[-1]) and args.zero3_save_16bit_model is (True if name == "zero3" else None)


def test_fsdp_is_the_second_version_to_the_processes_too(monkeypatch):
    for key, value in prepare_multi_gpu_env(launched("fsdp")).items():
        if key.startswith("FSDP_"):
            monkeypatch.setenv(key, value)
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2 and plugin.reshard_after_forward is True and not plugin.cpu_ram_efficient_loading
    assert "FULL_STATE_DICT" in str(plugin.state_dict_type)


@pytest.mark.parametrize("name", NAMES)
def test_no_machine_is_named(name):
    text = (LAUNCH / f"{name}.yaml").read_text()
    values = [str(value) for value in yaml.safe_load(text).values()]
    assert f"--config_file {name}.yaml" in text and not any(re.search(r"/|\d+\.\d+\.\d+|~", value) for value in values)
