"""The demo: keep, prove, promote, break and rescue real models, in under a minute.

Run it with ``make demo``. It trains on two data sets that scikit-learn carries, leaves its
store in ``demo-store`` and says how to go on with it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
STORE = ROOT / "demo-store"
HOLD = Path(sys.executable).with_name("hold")


def title(text: str) -> None:
    """Announce a step."""
    print(f"\n== {text}", flush=True)


def hold(*words: str, expect: int = 0) -> None:
    """Run the command as a person would, and insist on its exit status."""
    print(f"$ hold {' '.join(words)}", flush=True)
    done = subprocess.run([HOLD, *words], check=False)
    if done.returncode != expect:
        raise SystemExit(f"hold {words[0]} ended with {done.returncode}, not {expect}")
    if expect:
        print(f"(exit status {expect}, as it should be)", flush=True)


def main() -> None:
    """Run every step; stop at the first that does not do what it should."""
    started = time.perf_counter()
    os.environ["HOLDFAST_STORE"] = str(STORE)
    os.environ["HOLDFAST_CACHE"] = str(STORE / "cache")
    if STORE.exists():
        shutil.rmtree(STORE)

    title("Train on breast-cancer data (569 rows, 30 columns) and keep two versions")
    models, train, held_out = train_and_save()

    title("What is there")
    hold("ls")
    hold("ls", "cancer")
    hold("show", "cancer")

    title("Prove it: hash every byte and replay the golden rows, here and now")
    hold("verify")

    title("Load in a fresh process and predict; columns may come in any order")
    hold("predict", "cancer", str(held_out))

    title("Promote, see who did it and why, roll back")
    hold("promote", "cancer@v1", "--to", "prod", "--reason", "first release")
    hold("promote", "cancer@v2", "--to", "prod", "--reason", "better AUC")
    hold("rollback", "cancer", "--reason", "alarms at night")
    hold("log", "cancer")
    hold("diff", "cancer@v1", "cancer@v2")

    title("Break it: flip one bit of one weight on disk")
    flip_a_bit("cancer@v1")
    hold("verify", "cancer@v1", expect=4)
    print('>>> holdfast.load("cancer@v1")')
    refused_load()

    title("Rescue it: the live model is saved again, and heals the store")
    rescue(models["logistic"], train)
    hold("verify", "cancer@v1")

    title(f"Done in {time.perf_counter() - started:.0f} s. The store stays; go on with it:")
    print(f"  export HOLDFAST_STORE={STORE}")
    print(f"  export PATH={HOLD.parent}:$PATH")
    print("  hold ls && hold show digits && hold stats")


def train_and_save() -> tuple[dict[str, Any], Any, Path]:
    """Fit three models and save them.

    Returns:
        The models by kind, the rows they were trained on, and a CSV of held-out rows whose
        columns are in another order.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.datasets import load_breast_cancer, load_digits
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    import holdfast

    data = load_breast_cancer(as_frame=True)
    train, test, y_train, y_test = train_test_split(data.data, data.target, random_state=0)
    scale = ColumnTransformer([("scale", StandardScaler(), list(train.columns))])
    candidates = {
        "logistic": make_pipeline(scale, LogisticRegression(max_iter=2000)),
        "forest": RandomForestClassifier(100, random_state=0),
    }
    holdfast.Store.create(STORE)
    for kind, model in candidates.items():
        model.fit(train, y_train)
        auc = float(roc_auc_score(y_test, model.predict_proba(test)[:, 1]))
        version = holdfast.save(
            model,
            "cancer",
            inputs=train,
            labels=["malignant", "benign"],
            metrics={"auc": auc},
            params={"kind": kind},
        )
        print(f"saved {version.ref} ({kind}): {version.proof}, AUC {auc:.4f}")

    digits = load_digits()
    forest = RandomForestClassifier(200, random_state=0).fit(digits.data, digits.target)
    version = holdfast.save(forest, "digits", inputs=digits.data)
    print(f"saved {version.ref} (200 trees): {version.proof}")

    held_out = STORE / "held-out.csv"
    test.head(5)[list(reversed(test.columns))].to_csv(held_out, index=False)
    return candidates, train, held_out


def flip_a_bit(ref: str) -> None:
    """Damage the last blob of a version's tensors on disk."""
    import holdfast

    version = holdfast.get(ref)
    digest = version.manifest.pieces[-1].digest
    piece = STORE / "blobs" / "sha256" / digest.removeprefix("sha256:")
    bad = bytearray(piece.read_bytes())
    bad[len(bad) // 2] ^= 1
    piece.chmod(0o644)
    piece.write_bytes(bad)
    print(f"flipped bit 0 of byte {len(bad) // 2} of {piece.relative_to(STORE)}")


def rescue(model: Any, train: Any) -> None:
    """Save the model that is still in memory; damaged blobs of the same content are rewritten."""
    import holdfast

    version = holdfast.save(
        model, "cancer", inputs=train, labels=["malignant", "benign"], note="after disk damage"
    )
    print(f"saved {version.ref}: same content as {version.same_content_as}")
    print(f"{version.healed} damaged blob was written anew")


def refused_load() -> None:
    """Show that Python refuses the damaged version too."""
    import holdfast

    try:
        holdfast.load("cancer@v1")
    except holdfast.HoldfastError as error:
        print(f"{type(error).__name__}: {error}")
    else:
        raise SystemExit("a damaged version was loaded")


if __name__ == "__main__":
    main()
