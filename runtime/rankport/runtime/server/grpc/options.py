"""Options of gRPC's core that a server runs with."""

import grpc

from rankport.runtime.server.config import ServerConfig

_NO_LIMIT = 2**31 - 1
_HANDSHAKE_MS = 10_000
_UNSEEN_CALLS = 10_000  # seconds of work, which no server gets behind
_UNCOMPRESSED = 1 << grpc.Compression.NoCompression


def server_options(config: ServerConfig) -> list[tuple[str, int]]:
    """Makes the options of the settings."""
    age_ms, unread = round(config.max_connection_age_s * 1000), config.max_unread_bytes
    return [
        # The services refuse what is too large, and say so; gRPC's own refusal looks like an overload.
        ("grpc.max_receive_message_length", min(2 * config.max_message_bytes, _NO_LIMIT)),
        ("grpc.max_send_message_length", -1),
        # A message of 256 KiB would be one of 256 MiB once it is inflated, before anybody asks whose it is.
        ("grpc.compression_enabled_algorithms_bitset", _UNCOMPRESSED),
        # Past these gRPC would cancel calls that no service has seen; it holds back those of a connection instead.
        ("grpc.max_concurrent_streams", config.max_connection_calls),
        ("grpc.max_allowed_incoming_connections", config.max_connections),
        ("grpc.http.overload_protection", 0),
        # Those that a client takes back at once count for none, and each holds 15 kB until a service has seen it.
        ("grpc.server.max_pending_requests", _UNSEEN_CALLS),
        ("grpc.server.max_pending_requests_hard_limit", _UNSEEN_CALLS),
        ("grpc.server_max_unrequested_time_in_server", _NO_LIMIT // 1000),
        # Calls in progress finish; by default streams that never do would keep their connection.
        *([("grpc.max_connection_age_ms", age_ms)] if age_ms else []),
        *([("grpc.max_connection_age_grace_ms", round(config.grace_s * 1000))] if age_ms else []),
        # Two servers on one port would share its calls at random, as fronts of one do; the second one fails instead.
        ("grpc.so_reuseport", int(config.is_front)),
        # Else gRPC lets clients send megabytes ahead, as many as are on their way in a round trip.
        *([("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", unread)] if unread else []),
        # Connections that say nothing, or end no handshake of TLS, would keep others out for a minute or two.
        ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
        ("grpc.http2.settings_timeout", _HANDSHAKE_MS),
        # Clients that vanished without a word are noticed, and their work dropped.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        # Clients may do the same every 10 s; pings come in bursts where a network held them up.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ]
