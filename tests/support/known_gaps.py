"""What is known not to hold yet: run every time, reported as expected failures with the reason.

An entry goes when the engine is mended; nothing here is skipped or counted as passed.
"""

KNOWN_GAPS: dict[str, str] = {
    "test_threads_on_one_layer_get_what_each_would_have_got_alone[": (
        "failed once in a full run and never alone: the model of several threads or the layer misses something"
    ),
}
_CRAWLS = "without a swap file, close to what compressed RAM can hold, a program crawls"
KNOWN_GAPS |= dict.fromkeys(
    (
        "test_a_notebook_gives_the_same_result[none",
        "test_buffers_larger_than_the_budget_come_through_input_and_output[",
        "test_sort_gives_the_same_text[",
        "test_xz_gives_back_what_it_compressed[",
    ),
    _CRAWLS,
)
