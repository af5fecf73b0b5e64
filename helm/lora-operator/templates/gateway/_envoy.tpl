{{/*
Envoy's whole configuration: one listener for clients, one for the kubelet and Prometheus. The picker says where each request
goes. docs/gateway.md explains what is closed and why.
*/}}
{{- define "gateway.envoy" -}}
{{- $gateway := .Values.gateway }}
{{- $owners := $gateway.owners }}
node: {id: gateway, cluster: gateway}  # without it Envoy reads no certificate from a file
admin:
  address: {socket_address: {address: 127.0.0.1, port_value: 9901}}
overload_manager:
  resource_monitors:
  - name: envoy.resource_monitors.global_downstream_max_connections
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig
      max_active_downstream_connections: 10000
static_resources:
  listeners:
  - name: gateway
    address: {socket_address: {address: {{ $gateway.address | quote }}, port_value: {{ $gateway.port }}, ipv4_compat: {{ contains ":" $gateway.address }}}}
    per_connection_buffer_limit_bytes: 1048576
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: gateway
          use_remote_address: true
          normalize_path: true
          merge_slashes: true
          request_headers_timeout: 10s
          stream_idle_timeout: {{ $gateway.idleSeconds }}s
          http1_safe_max_connection_duration: true
          common_http_protocol_options:
            idle_timeout: 300s
            max_connection_duration: {{ $gateway.connectionSeconds }}s
            headers_with_underscores_action: DROP_HEADER
          http2_protocol_options:
            max_concurrent_streams: 250
            initial_stream_window_size: 65536
            initial_connection_window_size: 1048576
          # a client that could send this would choose where its request goes
          early_header_mutation_extensions:
          - name: removal
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation
              mutations: [{remove: x-gateway-destination-endpoint}]
          {{- if $gateway.accessLog }}
          access_log:
          - name: stdout
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog
              log_format:
                json_format:
                  time: "%START_TIME%"
                  method: "%REQ(:METHOD)%"
                  path: "%PATH(NQ)%"
                  status: "%RESPONSE_CODE%"
                  details: "%RESPONSE_CODE_DETAILS%"
                  flags: "%RESPONSE_FLAGS%"
                  model: "%DYNAMIC_METADATA(lora-operator:model)%"
                  owner: "%DYNAMIC_METADATA(lora-operator:owner)%"
                  pod: "%UPSTREAM_HOST%"
                  milliseconds: "%DURATION%"
                  bytes_in: "%BYTES_RECEIVED%"
                  bytes_out: "%BYTES_SENT%"
          {{- end }}
          # errors that Envoy makes itself have the shape of OpenAI's; those of picker and engines have it already
          local_reply_config:
            mappers:
            - filter:
                extension_filter:
                  name: no-picker
                  typed_config:
                    "@type": type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter
                    expression: response.code_details.startsWith("ext_proc_error")
              status_code: 503
              headers_to_add: [{header: {key: retry-after, value: "1"}}]
              body: {inline_string: "the gateway cannot ask where adapters are: no endpoint picker answers; try again"}
              body_format_override: {{ include "gateway.error" "NoEndpointPicker" }}
            - filter:
                extension_filter:
                  name: no-token
                  typed_config:
                    "@type": type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter
                    expression: response.code_details.startsWith("jwt_authn")
              body_format_override: {{ include "gateway.error" "Unauthorized" }}
            - filter:
                extension_filter:
                  name: others
                  typed_config:
                    "@type": type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter
                    expression: response.code >= 400 && !response.code_details.startsWith("lora_operator_")
              body_format_override: {{ include "gateway.error" "GatewayError" }}
          route_config:
            response_headers_to_add:
            - {header: {key: x-lora-model, value: "%DYNAMIC_METADATA(lora-operator:model)%"}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}
            - {header: {key: x-lora-selected, value: "%DYNAMIC_METADATA(lora-operator:selected)%"}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}
            - {header: {key: x-lora-fallback, value: "%DYNAMIC_METADATA(lora-operator:fallback)%"}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}
            virtual_hosts:
            - name: all
              domains: ["*"]
              retry_policy: {retry_on: "connect-failure,refused-stream,reset-before-request", num_retries: 1}
              routes:
              - match: {path: /healthz}
                direct_response: {status: 200}
                typed_per_filter_config: {{ include "gateway.unasked" . }}
              {{- range concat (include "gateway.paths" . | fromYamlArray) $gateway.morePaths }}
              - match: {path: {{ . | quote }}}
                route: {cluster: pods, timeout: 0s}
              {{- end }}
              - match: {path_separated_prefix: /v1/models}
                route: {cluster: pods}
              - match: {prefix: /}
                direct_response: {status: 404, body: {inline_string: "the gateway has no such route"}}
                typed_per_filter_config: {{ include "gateway.unasked" . }}
          http_filters:
          {{- if or $owners.jwt.jwksUri $owners.jwt.jwks }}
          - name: jwt
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication
              providers:
                owners:
                  issuer: {{ required "gateway.owners.jwt.issuer is not set: name who issues the tokens, as their claim iss does" $owners.jwt.issuer | quote }}
                  audiences: {{ $owners.jwt.audiences | toJson }}
                  from_headers: [{name: authorization, value_prefix: "Bearer "}]
                  forward: false
                  require_expiration: true
                  payload_in_metadata: token
                  {{- if $owners.jwt.jwksUri }}
                  remote_jwks:
                    http_uri: {uri: {{ $owners.jwt.jwksUri | quote }}, cluster: jwks, timeout: 5s}
                    cache_duration: 300s
                    async_fetch: {}
                  {{- else }}
                  local_jwks: {inline_string: {{ $owners.jwt.jwks | quote }}}
                  {{- end }}
              rules:
              - match: {path: /healthz}
              - match: {prefix: /}
                requires: {provider_name: owners}
          {{- end }}
          - name: picker
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor
              grpc_service:
                envoy_grpc: {cluster_name: picker}
                {{- with $gateway.namespace }}
                initial_metadata: [{key: x-lora-namespace, value: {{ . | quote }}}]
                {{- end }}
              failure_mode_allow: false
              processing_mode:
                request_header_mode: SEND
                request_body_mode: FULL_DUPLEX_STREAMED
                request_trailer_mode: SEND
                response_header_mode: SKIP
              metadata_options:
                forwarding_namespaces: {untyped: [envoy.filters.http.jwt_authn]}
                receiving_namespaces: {untyped: [envoy.lb, lora-operator]}
          {{- with $gateway.rateLimit }}
          {{- if .requests }}
          # behind the picker, which knows the owner
          - name: rate-limit
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
              stat_prefix: owners
              filter_enabled: {default_value: {numerator: 100}}
              filter_enforced: {default_value: {numerator: 100}}
              enable_x_ratelimit_headers: DRAFT_VERSION_03
              always_consume_default_token_bucket: false
              token_bucket: {max_tokens: 1000000, tokens_per_fill: 1000000, fill_interval: 1s}
              max_dynamic_descriptors: 10000
              descriptors:
              - entries: [{key: owner}]
                token_bucket: {max_tokens: {{ .requests }}, tokens_per_fill: {{ .requests }}, fill_interval: {{ .seconds }}s}
              rate_limits:
              - actions:
                - metadata:
                    descriptor_key: owner
                    source: DYNAMIC
                    metadata_key: {key: lora-operator, path: [{key: owner}]}
          {{- end }}
          {{- end }}
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router, suppress_envoy_headers: true}
      {{- if $gateway.tlsSecret }}
      transport_socket:
        name: tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            alpn_protocols: [h2, http/1.1]
            tls_certificate_sds_secret_configs:
            - name: gateway
              sds_config: {path_config_source: {path: /etc/gateway/certificate.yaml}}
      {{- end }}
  - name: probes
    address: {socket_address: {address: {{ $gateway.address | quote }}, port_value: {{ $gateway.metricsPort }}, ipv4_compat: {{ contains ":" $gateway.address }}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: probes
          normalize_path: true
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {path: /ready}
                direct_response: {status: 200}
              - match: {path: /metrics, headers: [{name: ":method", string_match: {exact: GET}}]}
                route: {cluster: admin, prefix_rewrite: /stats/prometheus}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
  - name: pods
    type: ORIGINAL_DST
    lb_policy: CLUSTER_PROVIDED
    connect_timeout: 5s
    original_dst_lb_config: {use_http_header: true, http_header_name: x-gateway-destination-endpoint}
    circuit_breakers: &many
      thresholds: [{max_connections: 100000, max_pending_requests: 100000, max_requests: 100000}]
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        common_http_protocol_options: {idle_timeout: 4s}  # vLLM closes after 5
        explicit_http_config: {http_protocol_options: {}}
  - name: picker
    type: STRICT_DNS
    dns_lookup_family: V4_PREFERRED
    connect_timeout: 2s
    circuit_breakers: *many
    load_assignment:
      cluster_name: picker
      endpoints:
      - lb_endpoints:
        - endpoint: {address: {socket_address: {address: {{ printf "%s-picker.%s.svc" (include "lora-operator.name" .) .Release.Namespace }}, port_value: {{ .Values.router.picker.port }}}}}
    health_checks:
    - {timeout: 5s, interval: 2s, no_traffic_interval: 2s, unhealthy_threshold: 2, healthy_threshold: 1, grpc_health_check: {service_name: envoy.service.ext_proc.v3.ExternalProcessor}}
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
    {{- if not .Values.router.picker.plainText }}
    transport_socket:
      name: tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        common_tls_context: {alpn_protocols: [h2]}
    {{- end }}
  - name: admin
    type: STATIC
    load_assignment:
      cluster_name: admin
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 9901}}}}]}]
  {{- if $owners.jwt.jwksUri }}
  {{- $uri := urlParse $owners.jwt.jwksUri }}
  - name: jwks
    type: STRICT_DNS
    dns_lookup_family: V4_PREFERRED
    connect_timeout: 5s
    load_assignment:
      cluster_name: jwks
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: {{ $uri.hostname | quote }}, port_value: {{ regexFind "[0-9]+$" (regexFind ":[0-9]+$" $uri.host) | default (ternary "443" "80" (eq $uri.scheme "https")) }}}}}}]}]
    {{- if eq $uri.scheme "https" }}
    transport_socket:
      name: tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        sni: {{ $uri.hostname | quote }}
        common_tls_context:
          validation_context:
            trusted_ca: {filename: {{ ternary (printf "/etc/lora-ca/%s" .Values.ca.key) "/etc/ssl/certs/ca-certificates.crt" (ne .Values.ca.configMap "") }}}
            match_typed_subject_alt_names: [{san_type: DNS, matcher: {exact: {{ $uri.hostname | quote }}}}]
    {{- end }}
  {{- end }}
{{- end -}}

{{/* The body of an error, in the shape of OpenAI's. */}}
{{- define "gateway.error" -}}
{json_format: {error: {message: "%LOCAL_REPLY_BODY%", type: {{ . }}, param: null, code: "%RESPONSE_CODE%"}}}
{{- end -}}

{{/* Of a route that Envoy answers itself. */}}
{{- define "gateway.unasked" -}}
{picker: {"@type": type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExtProcPerRoute, disabled: true}}
{{- end -}}

{{/* What engines have routes for whose body names a model. All others are closed: they would reach some pod's own. */}}
{{- define "gateway.paths" -}}
- /v1/completions
- /v1/chat/completions
- /v1/responses
- /v1/messages
- /v1/messages/count_tokens
- /v1/embeddings
- /v1/rerank
- /v2/rerank
- /rerank
- /v1/score
- /score
- /pooling
- /classify
- /v1/audio/transcriptions
- /v1/audio/translations
- /tokenize
- /detokenize
{{- end -}}
