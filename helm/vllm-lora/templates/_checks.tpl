{{/* What would come up wrong, or not at all, is refused here with a word on what to do: {root, model}. */}}
{{- define "vllm-lora.check" -}}
{{- $lora := .model.loraConfig }}
{{- if and $lora.enabled (lt (int $lora.maxCpuLoras) (int $lora.maxLoras)) }}
{{- fail (printf "model %s: loraConfig.maxCpuLoras (%d) must be at least maxLoras (%d), or vLLM does not start" .model.name (int $lora.maxCpuLoras) (int $lora.maxLoras)) }}
{{- end }}
{{- if and (include "vllm-lora.has-agent" .) (not .root.Values.delivery.agent.image) }}
{{- fail (printf "model %s: delivery.agent.image is not set, and no image is published: name the one that you have built and pushed (make image), the same as of the operator, for example --set delivery.agent.image=registry.example.com/lora-operator:0.1.0" .model.name) }}
{{- end }}
{{- $cache := .model.modelCache }}
{{- if and $cache.enabled $cache.size (not $cache.existingClaim) (eq .model.workload "Deployment") }}
{{- fail (printf "model %s: the pods of a Deployment have no claims of their own: name one that all of them can mount in modelCache.existingClaim, leave modelCache.size empty, or use workload: StatefulSet" .model.name) }}
{{- end }}
{{- $shutdown := .model.shutdown }}
{{- if le (int .model.terminationGracePeriodSeconds) (add (int $shutdown.preStopSeconds) (int $shutdown.timeoutSeconds) | int) }}
{{- if or (int $shutdown.preStopSeconds) (int $shutdown.timeoutSeconds) }}
{{- fail (printf "model %s: terminationGracePeriodSeconds (%d) must be more than shutdown.preStopSeconds (%d) and shutdown.timeoutSeconds (%d) together, or requests are cut off by the kubelet" .model.name (int .model.terminationGracePeriodSeconds) (int $shutdown.preStopSeconds) (int $shutdown.timeoutSeconds)) }}
{{- end }}
{{- end }}
{{- end -}}
