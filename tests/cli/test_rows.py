"""Rows of a CSV file are read as the kinds of values that the model was saved with."""

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from sklearn.linear_model import LogisticRegression

import holdfast
from holdfast.archive.align import align
from holdfast.archive.signature import describe
from holdfast.cli import main as cli_main
from holdfast.cli.rows import read_csv
from holdfast.errors import UsageError

FRAME = pd.DataFrame(
    {
        "zip": ["007", "0150"],
        "plan": pd.Categorical(["NA", "pro"], ["pro", "NA"]),
        "city": ["Oslo", None],
        "level": pd.Categorical([3, 1], [3, 1]),
        "member": pd.Categorical([True, False], [True, False]),
        "since": pd.to_datetime(["2026-01-01", "2026-02-01"]),
        "age": [30, 40],
        "income": [1.5, None],
    }
)


def fitted(path, signature):
    return align(signature, read_csv(path, signature), ref="m@v1")


def test_what_went_out_as_csv_comes_back_as_it_was(tmp_path):
    path = tmp_path / "rows.csv"
    FRAME.to_csv(path, index=False)
    found = fitted(path, describe(FRAME))
    pd.testing.assert_frame_equal(found.inputs, FRAME, check_dtype=False)
    assert found.inputs.dtypes.astype(str).tolist() == FRAME.dtypes.astype(str).tolist()
    assert found.inputs["level"].cat.categories.tolist() == [3, 1]
    assert found.notes == ()


def test_missing_values_in_csv(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("zip,plan,city,level,member,since,age,income\n,,NA,,,,,nan\n1,NA,,1,,,2,\n")
    found = fitted(path, describe(FRAME))
    assert found.inputs["plan"].cat.codes.tolist() == [-1, 1]
    assert found.inputs["level"].cat.codes.tolist() == [-1, 1]
    assert found.inputs["city"].isna().all()
    assert found.inputs["zip"].tolist()[1] == "1"
    assert "'zip', 'plan', 'level', 'member', 'since'" in found.notes[0]


@pytest.mark.parametrize("rows", [["a", "b"], np.array(["a", "b"]), np.array(["a"], object)])
def test_texts_without_columns_are_one_column_of_csv(tmp_path, rows):
    path = tmp_path / "rows.csv"
    path.write_text("text\n007\nbanana\n")
    assert fitted(path, describe(rows)).inputs == ["007", "banana"]


def test_numbers_for_an_array(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n1,2\n3,4\n")
    found = fitted(path, describe(np.zeros((1, 2), "f4")))
    assert found.inputs.dtype == np.float32
    assert found.inputs.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("text", ["", "since\nnot a date\n", 'a,b\n1,2\n"3,4,5,6\n'])
def test_what_is_no_such_csv_is_refused_by_name(tmp_path, text):
    path = tmp_path / "rows.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"rows\.csv cannot be read as CSV"):
        read_csv(path, describe(FRAME))


def test_hold_predict_applies_the_threshold_and_show_tells_it(tmp_path):
    frame = pd.DataFrame({"x": np.linspace(-2, 2, 40)})
    model = LogisticRegression().fit(frame, np.arange(40) >= 20)
    store = tmp_path / "store"
    holdfast.save(model, "m", inputs=frame, threshold=0.9, labels=["no", "yes"], store=store)
    frame.to_csv(tmp_path / "rows.csv", index=False)
    out = hold("predict", "m", tmp_path / "rows.csv", "--store", store)
    expected = np.where(model.predict_proba(frame)[:, 1] >= 0.9, "yes", "no")
    assert out.split() == ["prediction", *expected]
    assert "yes where its probability is at least 0.9" in hold("show", "m", "--store", store)


def hold(*words):
    with CliRunner().isolation() as streams:
        with pytest.raises(SystemExit) as stopped:
            cli_main.main([str(word) for word in words])
        assert stopped.value.code in (0, None), streams[1].getvalue().decode()
        return streams[0].getvalue().decode()
