"""How arrays lie in memory is kept as far as answers depend on it."""

import numpy as np

from holdfast.codec.arrays import store_array


def test_a_view_of_columns_stays_by_columns():
    whole = np.asfortranarray(np.arange(48.0).reshape(12, 4))
    for view, order in ((whole[:5], "F"), (whole[::2, 1:], "F"), (whole.T[:, 1:6], "C")):
        assert not view.flags.forc
        assert store_array(view).options.get("order", "C") == order


def test_a_single_row_or_column_has_no_order():
    whole = np.arange(48.0).reshape(12, 4)
    for view in (whole[:1], whole[:, :1], whole[:, 0], whole[:0, ::2]):
        assert "order" not in store_array(view).options or view.flags.f_contiguous
