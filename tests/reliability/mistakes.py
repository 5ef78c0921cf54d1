"""Command lines for `train.py`, valid, wrong and absurd, as Hypothesis strategies.

Sizes have small values, so that no valid command takes long. No path leads out of the folder in
which a command is called.
"""

from hypothesis import strategies as st

from cifar_exp.config.keys import known_keys

# A run of a tenth of a second.
BASE = (
    "data=synthetic",
    "data.train_size=20",
    "data.test_size=10",
    "data.batch_size=10",
    "model=vgg11",
    "model.width=0.015625",
    "training.epochs=1",
    "device=cpu",
    "logger=none",
)
# The time of a run depends on these, so no large valid values are used.
SIZES = {
    "data.batch_size",
    "data.image_size",
    "data.test_size",
    "data.train_size",
    "model.width",
    "training.epochs",
}
GROUPS = {
    "data": ["synthetic", "cifar10", "image_folder"],
    "model": ["vgg11", "vgg13", "vgg16"],
    "optimizer": ["adam", "adamw", "sgd", "rmsprop"],
    "scheduler": ["multistep", "constant", "cosine", "onecycle"],
    "logger": ["none", "tensorboard", "[tensorboard]"],
    "experiment": ["demo", "small", "best", "speedrun"],
    "lr": ["low", "article", "high", "too_high"],
    "batch_size": ["small", "large"],
    "dropout": ["none", "light", "half"],
    "weight_decay": ["none", "light", "medium", "strong", "too_strong"],
    "epochs": ["short"],
}
# Valid and almost valid values of other keys, by the last part of the key.
VALID = {
    "augment": ["none", "flip", "crop", "crop_flip", "croop"],
    "betas": ["[0.9,0.99]", "[0,0]", "[1,1]", "[0.9]"],
    "cutout": ["0", "8", "32", "512", "513"],
    "deterministic": ["true", "false"],
    "device": ["cpu", "auto", "cuda"],
    "limit_test": ["null", "10", "9", "1000"],
    "limit_train": ["null", "10", "9", "1000"],
    "lr": ["0.1", "1e-3", "10", "1e30", "1e-30"],
    "milestones": ["[]", "[1]", "[5,3]", "[1,1]", "[0]"],
    "name": ["adam", "sgd", "vgg13", "cosine", "synthetic"],
    "nesterov": ["true", "false"],
    "normalize": ["none", "channels"],
    "precision": ["fp32", "bf16", "auto"],
    "rerun": ["true", "false"],
    "resume": ["auto", "fresh"],
    "root": ["data", "nowhere", "file", ".", "x" * 300],
    "results": ["results", "file", "two words", "ü", ".", "x" * 300],
    "logs": ["logs", "file", "multirun_results", "x" * 300],
    "cache": ["cache", "file", "x" * 300],
    "seed": ["0", "7", "9223372036854775807", "${oc.decode:3}"],
    "tensorboard": ["true", "false"],
    "test_flip": ["true", "false"],
    "runs_per_device": ["auto", "1", "2", "0", "1000000"],
    "max_batch_size": ["1", "2", "0", "null"],
    "_target_": ["os.getcwd", "torch.optim.sgd.torch.load", "nowhere"],
    "mode": ["RUN", "MULTIRUN", "run"],
    "hydra/launcher": ["basic", "packed", "joblib"],
    "hydra/sweeper": ["basic", "study"],
    "hydra/job_logging": ["default", "stdout", "none", "disabled"],
    "hydra/hydra_logging": ["default", "hydra_debug", "none"],
    "chdir": ["true", "false"],
    "dir": ["here", ".", "${hydra:job.name}"],
    "subdir": ["${hydra.job.num}", "here", "."],
    "output_subdir": [".hydra", "null", "here"],
    "verbose": ["true", "false", "[hydra]"],
}
HYDRA_KEYS = [
    "hydra",
    "hydra.callbacks",
    "hydra.callbacks.x._target_",
    "hydra.help.template",
    "hydra.hydra_help",
    "hydra.hydra_logging.root",
    "hydra.job.chdir",
    "hydra.job.config_name",
    "hydra.job.env_copy",
    "hydra.job.env_set.NAME",
    "hydra.job.id",
    "hydra.job.name",
    "hydra.job.num",
    "hydra.job_logging",
    "hydra.launcher",
    "hydra.launcher._target_",
    "hydra.launcher.nope",
    "hydra.launcher.runs_per_device",
    "hydra.mode",
    "hydra.nope",
    "hydra.output_subdir",
    "hydra.overrides.task",
    "hydra.run.dir",
    "hydra.runtime.choices.study",
    "hydra.runtime.cwd",
    "hydra.searchpath",
    "hydra.sweep.dir",
    "hydra.sweep.subdir",
    "hydra.sweeper.max_batch_size",
    "hydra.sweeper.params",
    "hydra.sweeper.params.seed",
    "hydra.verbose",
    "hydra/callbacks",
    "hydra/env",
    "hydra/help",
    "hydra/hydra_logging",
    "hydra/job_logging",
    "hydra/launcher",
    "hydra/output",
    "hydra/sweeper",
]
NUMBERS = [
    "0",
    "-0",
    "1",
    "2",
    "3",
    "-1",
    "0.5",
    "1.5",
    "1e-3",
    ".5",
    "5.",
    "00",
    "+1",
    "0x10",
    "1_0",
]
HUGE = ["nan", "inf", "-inf", "1e400", "-1e400", "1e-400", "9" * 30, "-" + "9" * 30, "9" * 5000]
HUGE += ["1e308", "9223372036854775807", "9223372036854775808", "1e18"]
EMPTY = ["", "null", "None", "~", "???", "true", "false", "True", "on", "no"]
WORDS = [
    "word",
    "two words",
    "'quoted'",
    '"quoted"',
    "'",
    '"',
    "\\",
    "a\\,b",
    "ü",
    "訓練",
    "😀",
    "a=b",
]
WORDS += ["\x01", "\x1b[31mred", "a\tb", "a\nb", "\u202e", "#", "@", "a@b", "%s", "{}", "<script>"]
CONTAINERS = [
    "[]",
    "{}",
    "[1]",
    "[1,2]",
    "[[]]",
    "{a:1}",
    "{a: {b: [1]}}",
    "[a,b",
    "{a",
    "]",
    "[,]",
]
CONTAINERS += ["[1,a,null]", "{_target_: os.getcwd}", "[" * 60 + "]" * 60, "[" + "1," * 2000 + "1]"]
REFERENCES = ["${seed}", "${nope}", "${optimizer.lr}", "${optimizer}", "${", "${}", "$", "${a", "}"]
REFERENCES += [
    "${oc.env:HOME}",
    "${oc.env:NOPE}",
    "${oc.env:NOPE,1}",
    "${oc.decode:1}",
    "${nope:1}",
]
REFERENCES += ["${oc.env:PATH}", "${hydra:job.name}", "${hydra:job.num}", "${now:%Y}", "${.lr}"]
REFERENCES += [
    "${oc.create:{a:1}}",
    "${oc.select:nope,3}",
    "${..}",
    "\\${seed}",
    "${oc.dict.keys:model}",
]
SWEEPS = ["1,2", "a,b", "1,a", ",", "1,", ",1", "1,,2", "range(1,3)", "range(1,1)", "range(3,1)"]
SWEEPS += [
    "range(0,1,0)",
    "range(0,1,0.5)",
    "range(a,b)",
    "range(0,1e9)",
    "range(0,nan)",
    "range()",
]
SWEEPS += [
    "interval(0,1)",
    "choice()",
    "choice(1,2)",
    "choice(a,1)",
    "glob(*)",
    "glob(x*)",
    "glob()",
]
SWEEPS += [
    "shuffle(1,2)",
    "sort(2,1)",
    "tag(a,1,2)",
    "int(1.5)",
    "float(a)",
    "str(1)",
    "extend_list(1)",
]
SWEEPS += [
    "range(0,inf)",
    "glob([a*,l*],exclude=low)",
    "shuffle(range(1,3))",
    "[1],[2]",
    "{a:1},{a:2}",
]
LONG = ["x" * 5000, "x" * 200_000, "${" * 300 + "seed" + "}" * 300, "a." * 500, "," * 1000]

_KINDS = [NUMBERS, HUGE, EMPTY, WORDS, CONTAINERS, REFERENCES, SWEEPS, LONG]
_SMALL = [
    "1",
    "2",
    "10",
    "20",
    "0",
    "-1",
    "1.5",
    "0.001",
    "0.015625",
    "1000001",
    "9",
    "513",
    "word",
]
# Values that are invalid for a size.
_INVALID_SIZES = [text for kind in (HUGE, EMPTY, WORDS, CONTAINERS, SWEEPS, LONG) for text in kind]


def values(key: str) -> st.SearchStrategy[str]:
    """Any values for a key, except valid ones that take long or write elsewhere."""
    if key in SIZES or key in ("batch_size", "epochs"):
        invalid = [text for text in _INVALID_SIZES if text not in ("1e18", "true")]
        return st.one_of(st.sampled_from([*_SMALL, *GROUPS.get(key, [])]), st.sampled_from(invalid))
    letters = st.characters(exclude_categories=["Cs"], exclude_characters="\0/~")
    return st.one_of(*map(st.sampled_from, _KINDS), st.text(letters, max_size=9), almost_valid(key))


def almost_valid(key: str) -> st.SearchStrategy[str]:
    """Mostly valid values for a key."""
    if key in SIZES or key in ("batch_size", "epochs"):
        return st.sampled_from([*_SMALL, *GROUPS.get(key, [])])
    known = GROUPS.get(key) or VALID.get(key)
    return st.sampled_from(known or VALID.get(key.rpartition(".")[2], ["0", "1", "0.5"]))


@st.composite
def misspelt(draw: st.DrawFn, key: str) -> str:
    index = draw(st.integers(0, len(key) - 1))
    return draw(
        st.sampled_from(
            [
                key[:index] + key[index + 1 :],
                key[:index] + key[index] + key[index:],
                key[:index] + "x" + key[index + 1 :],
                key.upper(),
                key + ".x",
                key + ".",
                "." + key,
                key.replace(".", "/"),
                key + "@" + key,
                key + "@_global_",
                key + "@:_here_",
            ]
        )
    )


_KEYS = sorted({*known_keys()} - {"study"})
_ODD_KEYS = [
    "",
    " ",
    "a b",
    "=",
    "+",
    "~",
    "++",
    "--",
    "-",
    "x" * 3000,
    "ü",
    "0",
    "a..b",
    "[0]",
    "_target_",
]


@st.composite
def overrides(draw: st.DrawFn) -> str:
    """One override, more often valid than not."""
    if draw(st.integers(0, 2)):
        key = draw(st.sampled_from([*_KEYS, *_KEYS, *HYDRA_KEYS]))
        return f"{key}={draw(almost_valid(key))}"
    kind = draw(st.integers(0, 19))
    if kind < 11:
        key = draw(st.sampled_from(_KEYS))
    elif kind < 14:
        key = draw(misspelt(draw(st.sampled_from(_KEYS))))
    elif kind < 17:
        key = draw(st.sampled_from(HYDRA_KEYS))
    elif kind < 18:
        key = draw(st.sampled_from(_ODD_KEYS))
    else:
        return draw(
            st.one_of(*map(st.sampled_from, _KINDS), st.text(max_size=20).filter(_is_argument))
        )
    prefix = draw(st.sampled_from([""] * 8 + ["+", "++"] + ["~"] * (key not in SIZES)))
    if prefix == "~" and draw(st.booleans()):
        return f"~{key}"
    return f"{prefix}{key}={draw(values(key))}"


def _is_argument(text: str) -> bool:
    """Return whether a program can have this argument."""
    return "\0" not in text and not any(0xD800 <= ord(letter) < 0xE000 for letter in text)


# Hydra's basic launcher trains in the same process, which is five times as fast.
BASIC = ["-m", "hydra/launcher=basic"]
_INFORMS = [
    ["--cfg", "job"],
    ["--cfg", "hydra"],
    ["--cfg", "all"],
    ["--cfg", "nonsense"],
    ["--cfg"],
    ["--cfg", "job", "--resolve"],
    ["--cfg", "job", "--package", "optimizer"],
    ["--cfg", "job", "--package", "nope"],
    ["--cfg", "job", "-p", "_global_"],
    ["--resolve"],
    ["--package", "model"],
    *[["--info", kind] for kind in ("all", "config", "defaults", "defaults-tree", "plugins")],
    ["--info", "searchpath"],
    ["--info", "nonsense"],
    ["--info"],
    ["--help"],
    ["-h", "--resolve"],
    ["--hydra-help"],
    ["--version"],
    ["--shell-completion"],
    ["--shell-completion", "install=bash"],
    ["-sc", "uninstall=zsh"],
    ["-sc", "query=bash"],
    ["-sc", "nope=bash"],
    ["-sc", "install=nope"],
]
_OTHERS = [
    ["--run"],
    ["--run", "--multirun"],
    ["--config-name", "nope"],
    ["--config-name", "config"],
    ["--config-name", ""],
    ["--config-name", "../config"],
    ["--config-name", "lr/high"],
    ["--config-name"],
    ["--config-dir", "nowhere"],
    ["--config-dir", "."],
    ["--config-dir", "file"],
    ["--config-dir", ""],
    ["--config-path", "nowhere"],
    ["--config-path", "/nowhere"],
    ["--config-path", "pkg://nowhere"],
    ["--config-path", "a.yaml"],
    ["--experimental-rerun", "nowhere"],
    ["--allow", "a.B"],
    ["--allow"],
    ["--allow="],
    ["--nonsense"],
    ["--nonsense=1"],
    ["-x"],
    ["--"],
    ["--cf", "job"],
]


@st.composite
def commands(draw: st.DrawFn, sweeps: list[list[str]]) -> list[str]:
    """A whole command line. Args: sweeps: options that start a sweep."""
    count = draw(st.sampled_from([0, 1, 1, 1, 1, 2, 2, 3, 4]))
    words = [draw(overrides()) for _ in range(count)]
    options = draw(
        st.one_of(
            st.just([]),
            st.just([]),
            st.sampled_from(sweeps),
            st.sampled_from(_INFORMS),
            st.sampled_from(_OTHERS),
            st.sampled_from([[*BASIC, *others] for others in _OTHERS]),
        )
    )
    return [*BASE, *options, *words] if draw(st.booleans()) else [*options, *BASE, *words]
