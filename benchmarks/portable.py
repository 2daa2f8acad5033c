"""Portable forms: what they cost at save, and answers through them beside the model's own.

Run: python benchmarks/portable.py
"""

import os
import tempfile
import time

import numpy as np
from sklearn.datasets import make_classification
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import holdfast

ROUNDS = 7
X, Y = make_classification(3_000, 20, random_state=0)
MODELS = {
    "logistic pipeline": make_pipeline(StandardScaler(), LogisticRegression()),
    "forest, 50 trees": RandomForestClassifier(50, max_depth=7, random_state=0),
    "boosting, 100 trees": HistGradientBoostingClassifier(max_leaf_nodes=15, random_state=0),
}


def least(act, rounds=ROUNDS):
    """Return the least CPU seconds of a few rounds; other processes do not count."""
    found = []
    for _ in range(rounds):
        started = time.process_time()
        act()
        found.append(time.process_time() - started)
    return min(found)


def main():
    print(f"{'':<20} {'save ms':>9} {'with form':>10} {'KB':>6} {'error':>8} ", end="")
    print(f"{'1 row ms':>9} {'form':>6} {'3,000 ms':>9} {'form':>7}")
    with tempfile.TemporaryDirectory() as name:
        os.environ["HOLDFAST_CACHE"] = f"{name}/cache"
        store = holdfast.Store.create(f"{name}/store")
        for title, model in MODELS.items():
            model.fit(X, Y)
            saves = [
                least(lambda p=p, m=model: holdfast.save(m, "m", inputs=X, portable=p, store=store))
                for p in (None, "auto")
            ]
            version = holdfast.get("m", store=store)
            form = version.load(environment="portable")
            times = [
                least(lambda f=f, n=n: f.predict_proba(X[:n]))
                for n in (1, 3_000)
                for f in (model, form)
            ]
            error = np.abs(form.predict_proba(X) - model.predict_proba(X)).max()
            size = version.record.portable["size"] / 1e3
            one, one_form, many, many_form = (1e3 * seconds for seconds in times)
            print(f"{title:<20} {saves[0] * 1e3:>9.0f} {saves[1] * 1e3:>10.0f} ", end="")
            print(f"{size:>6.0f} {error:>8.1g} {one:>9.2f} {one_form:>6.2f} ", end="")
            print(f"{many:>9.2f} {many_form:>7.2f}")


if __name__ == "__main__":
    main()
