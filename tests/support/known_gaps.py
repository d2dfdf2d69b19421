"""What is known not to hold yet: run every time, reported as expected failures with the reason.

An entry goes when the engine is mended; nothing here is skipped or counted as passed.
"""

KNOWN_GAPS: dict[str, str] = {
    "test_threads_on_one_layer_get_what_each_would_have_got_alone[": (
        "failed once in a full run and never alone: the model of several threads or the layer misses something"
    ),
}
