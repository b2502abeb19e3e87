"""DestinationRule: https://istio.io/latest/docs/reference/config/networking/destination-rule/."""

from __future__ import annotations

from ostria.base.selectors import is_label_value
from ostria.resources.destination_rule import (
    ClientTLSSettings,
    ConnectionPoolSettings,
    DestinationRule,
    LoadBalancerSettings,
    LocalityLoadBalancerSetting,
    OutlierDetection,
    PortTrafficPolicy,
    TrafficPolicy,
    TunnelSettings,
)
from ostria.resources.validation.findings import (
    CONFLICT,
    DEPRECATED,
    DUPLICATE,
    INVALID,
    MISSING,
    NO_EFFECT,
    Findings,
    check_address,
    check_duration,
    check_export_to,
    check_labels,
    check_not_negative,
    check_pattern,
    check_percent,
    check_port,
    check_selector,
    error,
    warning,
)


def validate_destination_rule(rule: DestinationRule) -> Findings:
    """Everything that is wrong with one rule."""
    spec = rule.spec
    yield from check_pattern("spec.host", spec.host)
    if spec.traffic_policy is not None:
        yield from _policy("spec.trafficPolicy", spec.traffic_policy)
    names: set[str] = set()
    for index, subset in enumerate(spec.subsets):
        field = f"spec.subsets[{index}]"
        if not subset.name or not is_label_value(subset.name):
            yield error(INVALID, f"{field}.name", f'"{subset.name[:100]}" cannot be a subset\'s name')
        elif subset.name in names:
            yield warning(DUPLICATE, f"{field}.name", f'the subset "{subset.name}" is defined twice: the first counts')
        names.add(subset.name)
        yield from check_labels(f"{field}.labels", subset.labels)
        if subset.traffic_policy is not None:
            yield from _policy(f"{field}.trafficPolicy", subset.traffic_policy)
    local = spec.workload_selector is not None
    yield from check_export_to("spec.exportTo", spec.export_to, rule.metadata.namespace, local_only=local)
    if spec.workload_selector is not None:
        yield from check_selector("spec.workloadSelector.matchLabels", spec.workload_selector.match_labels)


def _policy(field: str, policy: TrafficPolicy) -> Findings:
    if policy == TrafficPolicy():
        yield error(MISSING, field, "a traffic policy needs at least one setting")
    yield from _settings(field, policy)
    for index, port in enumerate(policy.port_level_settings):
        place = f"{field}.portLevelSettings[{index}]"
        if port.port is None:
            yield error(MISSING, f"{place}.port", "the settings of a port need its number")
        else:
            yield from check_port(f"{place}.port.number", port.port.number)
        yield from _settings(place, port)
    if policy.tunnel is not None:
        yield from _tunnel(f"{field}.tunnel", policy.tunnel)
        if policy.proxy_protocol is not None:
            yield error(CONFLICT, f"{field}.proxyProtocol", "only one of tunnel and proxyProtocol may be set")


def _settings(field: str, policy: TrafficPolicy | PortTrafficPolicy) -> Findings:
    if policy.outlier_detection is not None:
        yield from _outliers(f"{field}.outlierDetection", policy.outlier_detection)
    if policy.connection_pool is not None:
        yield from check_connection_pool(f"{field}.connectionPool", policy.connection_pool)
    if policy.load_balancer is not None:
        yield from _balancing(f"{field}.loadBalancer", policy.load_balancer)
        locality = policy.load_balancer.locality_lb_setting
        if locality and (locality.failover or locality.failover_priority) and policy.outlier_detection is None:
            message = "failover needs outlierDetection to learn which endpoints fail"
            yield warning(NO_EFFECT, f"{field}.loadBalancer.localityLbSetting", message)
    if policy.tls is not None:
        yield from _tls(f"{field}.tls", policy.tls)


def _outliers(field: str, outliers: OutlierDetection) -> Findings:
    yield from check_duration(f"{field}.interval", outliers.interval)
    yield from check_duration(f"{field}.baseEjectionTime", outliers.base_ejection_time)
    yield from check_percent(f"{field}.maxEjectionPercent", outliers.max_ejection_percent)
    yield from check_percent(f"{field}.minHealthPercent", outliers.min_health_percent)
    if outliers.consecutive_errors:
        message = "consecutiveErrors is deprecated and does nothing"
        yield warning(DEPRECATED, f"{field}.consecutiveErrors", message, "use consecutive5xxErrors")
    if outliers.consecutive_local_origin_failures and not outliers.split_external_local_origin_errors:
        message = "consecutiveLocalOriginFailures needs splitExternalLocalOriginErrors: true"
        yield error(CONFLICT, f"{field}.consecutiveLocalOriginFailures", message)


def check_connection_pool(field: str, pool: ConnectionPoolSettings) -> Findings:
    """Limits of connections and requests."""
    if pool.tcp is None and pool.http is None:
        yield error(MISSING, field, "a connection pool needs tcp or http settings")
    if pool.tcp is not None:
        yield from check_not_negative(f"{field}.tcp.maxConnections", pool.tcp.max_connections)
        yield from check_duration(f"{field}.tcp.connectTimeout", pool.tcp.connect_timeout)
        yield from check_duration(f"{field}.tcp.maxConnectionDuration", pool.tcp.max_connection_duration)
        yield from check_duration(f"{field}.tcp.idleTimeout", pool.tcp.idle_timeout, zero=True)
    http = pool.http
    if http is None:
        return
    for name, value in (
        ("http1MaxPendingRequests", http.http1_max_pending_requests),
        ("http2MaxRequests", http.http2_max_requests),
        ("maxRequestsPerConnection", http.max_requests_per_connection),
        ("maxRetries", http.max_retries),
        ("maxConcurrentStreams", http.max_concurrent_streams),
    ):
        yield from check_not_negative(f"{field}.http.{name}", value)
    yield from check_duration(f"{field}.http.idleTimeout", http.idle_timeout, zero=True)
    if http.use_client_protocol and http.h2_upgrade_policy == "UPGRADE":
        message = "useClientProtocol cannot be combined with h2UpgradePolicy: UPGRADE"
        yield error(CONFLICT, f"{field}.http.useClientProtocol", message)


def _balancing(field: str, balancing: LoadBalancerSettings) -> Findings:
    hashed = balancing.consistent_hash
    if hashed is not None and hashed.http_cookie is not None:
        cookie = hashed.http_cookie
        if not cookie.name:
            yield error(MISSING, f"{field}.consistentHash.httpCookie.name", "a cookie needs a name")
        if cookie.ttl is not None:
            yield from check_not_negative(f"{field}.consistentHash.httpCookie.ttl", cookie.ttl.seconds)
    slow = "warmup" if balancing.warmup else "warmupDurationSecs" if balancing.warmup_duration_secs else ""
    if balancing.warmup and balancing.warmup_duration_secs:
        message = "only one of warmup and warmupDurationSecs may be set"
        yield error(CONFLICT, f"{field}.warmupDurationSecs", message, "use warmup")
    simple = balancing.simple or ("UNSPECIFIED" if hashed is None else "")
    if slow and simple not in ("ROUND_ROBIN", "LEAST_REQUEST", "LEAST_CONN", "UNSPECIFIED"):
        yield error(CONFLICT, f"{field}.{slow}", f"{slow} works with ROUND_ROBIN and LEAST_REQUEST only")
    if balancing.warmup is not None:
        yield from check_duration(f"{field}.warmup.duration", balancing.warmup.duration)
    yield from check_duration(f"{field}.warmupDurationSecs", balancing.warmup_duration_secs)
    if balancing.locality_lb_setting is not None:
        yield from _locality(f"{field}.localityLbSetting", balancing.locality_lb_setting)


def _locality(field: str, locality: LocalityLoadBalancerSetting) -> Findings:
    if locality.distribute and (locality.failover or locality.failover_priority):
        message = "distribute cannot be combined with failover or failoverPriority"
        yield error(CONFLICT, f"{field}.distribute", message)
    origins: list[str] = []
    for index, share in enumerate(locality.distribute):
        place = f"{field}.distribute[{index}]"
        yield from _place(f"{place}.from", share.from_, origins)
        destinations: list[str] = []
        for destination, weight in share.to.items():
            yield from _place(f'{place}.to["{destination}"]', destination, destinations)
            if not 1 <= weight <= 100:
                yield error(INVALID, f'{place}.to["{destination}"]', "a share is between 1 and 100")
        if sum(share.to.values()) != 100:
            yield error(INVALID, f"{place}.to", f"the shares add up to {sum(share.to.values())}, not to 100")
    for index, failover in enumerate(locality.failover):
        place = f"{field}.failover[{index}]"
        if failover.from_ == failover.to:
            yield error(INVALID, f"{place}.to", f'"{failover.to[:60]}" cannot take over for itself')
        for name, region in (("from", failover.from_), ("to", failover.to)):
            if "*" in region or "/" in region:
                yield error(INVALID, f"{place}.{name}", f'"{region[:60]}" is not a region', "name the region alone")


def _place(field: str, locality: str, others: list[str]) -> Findings:
    """A locality "region/zone/subzone", of which the last part may be "*"; none may cover another of its list."""
    parts = locality.split("/")
    if not all(parts) or len(parts) > 3 or "*" in "".join(parts[:-1]) or ("*" in parts[-1] and parts[-1] != "*"):
        yield error(INVALID, field, f'"{locality[:60]}" is not region, region/zone or region/zone/subzone')
        return
    plain = locality.removesuffix("*").rstrip("/")
    for other in others:
        if f"{plain}/".startswith(f"{other}/") or f"{other}/".startswith(f"{plain}/") or not plain or not other:
            yield error(DUPLICATE, field, f'"{locality[:60]}" overlaps with another locality of the list')
            break
    others.append(plain)


def _tls(field: str, tls: ClientTLSSettings) -> Findings:
    if tls.insecure_skip_verify:
        if tls.ca_certificates:
            message = "caCertificates cannot be checked against with insecureSkipVerify"
            yield error(CONFLICT, f"{field}.caCertificates", message)
        if tls.subject_alt_names:
            message = "subjectAltNames cannot be checked with insecureSkipVerify"
            yield error(CONFLICT, f"{field}.subjectAltNames", message)
    files = {
        "clientCertificate": tls.client_certificate,
        "privateKey": tls.private_key,
        "caCertificates": tls.ca_certificates,
        "caCrl": tls.ca_crl,
    }
    if tls.mode in ("SIMPLE", "MUTUAL") and tls.credential_name:
        for name, value in files.items():
            if value:
                yield error(CONFLICT, f"{field}.{name}", f"only one of credentialName and {name} may be set")
    elif tls.mode == "MUTUAL":
        for name in ("clientCertificate", "privateKey"):
            if not files[name]:
                message = f"mode MUTUAL needs {name}"
                yield error(MISSING, field, message, "or name a Secret with credentialName")
    elif tls.mode in ("ISTIO_MUTUAL", "DISABLE"):
        for name, value in (*files.items(), ("credentialName", tls.credential_name)):
            if value:
                yield warning(NO_EFFECT, f"{field}.{name}", f"{name} has no effect with mode {tls.mode}")


def _tunnel(field: str, tunnel: TunnelSettings) -> Findings:
    if tunnel.protocol not in ("", "CONNECT", "POST"):
        yield error(INVALID, f"{field}.protocol", f'"{tunnel.protocol[:60]}" is neither CONNECT nor POST')
    yield from check_address(f"{field}.targetHost", tunnel.target_host)
    yield from check_port(f"{field}.targetPort", tunnel.target_port)
