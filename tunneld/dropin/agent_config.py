"""The agent role's configuration by proxy-agent's options."""

import uuid

from tunneld.config import AgentConfig, DestinationPolicy
from tunneld.dropin.agent_flags import AgentOptions
from tunneld.dropin.duration import SECOND, seconds
from tunneld.dropin.program import StartError
from tunneld.dropin.server_config import join_address

_LEAST_KEEPALIVE = 10 * SECOND
"""By the rules of gRPC's clients in Go."""


def agent_config(options: AgentOptions) -> AgentConfig:
    """The configuration; the options must have been checked.

    Raises:
      StartError: no CA is named.
    """
    if not options.ca_cert:
        raise StartError("failed to run proxy connection with no CA: --ca-cert must be set")
    return AgentConfig(
        name="proxy-agent",
        server=join_address(options.proxy_server_host, options.proxy_server_port),
        cert=options.agent_cert,
        key=options.agent_key,
        ca=options.ca_cert,
        agent_id=options.agent_id or str(uuid.uuid4()),
        identifiers=options.agent_identifiers,
        policy=DestinationPolicy(open=True, metadata="allow"),
        token_path=options.service_account_token_path,
        alpn=options.alpn_proto,
        keepalive=seconds(max(options.keepalive_time, _LEAST_KEEPALIVE)),
        backoff_min=seconds(options.sync_interval),
        backoff_max=seconds(options.sync_interval_cap),
        sync_interval=seconds(options.sync_interval),
        sync_interval_cap=seconds(options.sync_interval_cap),
        sync_forever=options.sync_forever,
        probe_interval=seconds(options.probe_interval),
    )
