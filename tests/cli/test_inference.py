"""The folders of evaluations."""

from cifar_exp.cli.inference import _folder_name


def test_each_evaluation_of_a_run_has_its_folder() -> None:
    assert _folder_name([]) == "test"
    assert _folder_name(["data.limit_test=20", "test_flip=true"]) == (
        "data.limit_test=20,test_flip=true"
    )
    roots = ("a/b", "a-b", "a b", f"{'long/' * 30}1", f"{'long/' * 30}2", "\udcff", "ü")
    names = {_folder_name([f"data.root={root}"]) for root in roots}
    assert len(names) == len(roots)
    assert all("/" not in name and len(name.encode()) < 120 for name in names)
