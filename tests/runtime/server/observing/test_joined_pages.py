"""Pages of several fronts as one: every series once, each with its process, engines' once."""

from rankport.runtime.server.observing.joined_pages import joined

ONE = b"""# HELP rankport_calls_total Calls.
# TYPE rankport_calls_total counter
rankport_calls_total{front="grpc",code="OK"} 3.0
# HELP rankport_open_calls Calls {open}.
# TYPE rankport_open_calls gauge
rankport_open_calls 1.0
# HELP rankport_passes_total Passes.
# TYPE rankport_passes_total counter
rankport_passes_total{device="cpu"} 7.0
# HELP rankport_recording_seconds_total Seconds.
# TYPE rankport_recording_seconds_total counter
rankport_recording_seconds_total{device="cuda"} 1.0
# HELP rankport_id_rows_total Rows.
# TYPE rankport_id_rows_total counter
rankport_id_rows_total{device="cuda",found="host"} 1.0
# HELP rankport_id_rows_kept Rows.
# TYPE rankport_id_rows_kept gauge
rankport_id_rows_kept{device="cuda"} 1.0
# HELP rankport_store_kept_keys Keys.
# TYPE rankport_store_kept_keys gauge
rankport_store_kept_keys{memory="host",model="m"} 2.0
rankport_store_kept_keys{memory="device",model="m"} 9.0
"""
OTHER = ONE.replace(b" 3.0", b" 5.0").replace(b" 7.0", b" 6.0").replace(b" 9.0", b" 8.0")


def test_each_series_says_whose_it_is_and_those_of_engines_are_there_once() -> None:
    page = joined({"front 0": ONE, "front 1": OTHER}, "front 1").decode()
    assert page.splitlines() == [
        "# HELP rankport_calls_total Calls.",
        "# TYPE rankport_calls_total counter",
        'rankport_calls_total{process="front 0",front="grpc",code="OK"} 3.0',
        'rankport_calls_total{process="front 1",front="grpc",code="OK"} 5.0',
        "# HELP rankport_open_calls Calls {open}.",
        "# TYPE rankport_open_calls gauge",
        'rankport_open_calls{process="front 0"} 1.0',
        'rankport_open_calls{process="front 1"} 1.0',
        "# HELP rankport_store_kept_keys Keys.",
        "# TYPE rankport_store_kept_keys gauge",
        'rankport_store_kept_keys{process="front 0",memory="host",model="m"} 2.0',
        'rankport_store_kept_keys{process="front 1",memory="host",model="m"} 2.0',
        'rankport_store_kept_keys{memory="device",model="m"} 8.0',
        "# HELP rankport_passes_total Passes.",
        "# TYPE rankport_passes_total counter",
        'rankport_passes_total{device="cpu"} 6.0',
        "# HELP rankport_recording_seconds_total Seconds.",
        "# TYPE rankport_recording_seconds_total counter",
        'rankport_recording_seconds_total{device="cuda"} 1.0',
        "# HELP rankport_id_rows_total Rows.",
        "# TYPE rankport_id_rows_total counter",
        'rankport_id_rows_total{device="cuda",found="host"} 1.0',
        "# HELP rankport_id_rows_kept Rows.",
        "# TYPE rankport_id_rows_kept gauge",
        'rankport_id_rows_kept{device="cuda"} 1.0',
    ]
