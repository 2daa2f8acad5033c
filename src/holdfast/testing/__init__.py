"""Conformance suites for whoever writes a store, a log or an adapter of their own.

``stores.StoreConformance`` proves a ``BlobStore``, ``coding.CodingConformance`` one that keeps
blobs coded, ``logs.LogConformance`` proves a ``Log`` and
``adapters.AdapterConformance`` what keeps the models of a framework. Each is a class of pytest
tests: subclass it in a test file, provide the fixtures it names, run pytest::

    # test_my_store.py
    import pytest
    from holdfast.testing.stores import StoreConformance

    class TestMyStore(StoreConformance):
        @pytest.fixture
        def store(self, tmp_path):
            return MyStore(tmp_path)

For messages that show the compared values, add to ``conftest.py``::

    pytest.register_assert_rewrite("holdfast.testing")

pytest is imported by these modules only, never by this package, so importing ``holdfast`` needs
no pytest.
"""
