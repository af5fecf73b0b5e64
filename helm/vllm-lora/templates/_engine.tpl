{{/* The vLLM container of a model: {root, model}. */}}
{{- define "vllm-lora.engine" -}}
{{- $lora := .model.loraConfig }}
{{- with .model -}}
- name: vllm
  image: {{ .image }}
  imagePullPolicy: {{ .imagePullPolicy }}
  {{- with .command }}
  command:
  {{- toYaml . | nindent 2 }}
  {{- end }}
  args:
  {{- if include "vllm-lora.older-than" (dict "model" . "version" "0.18.0") }}
  - {{ printf "--model=%s" .model | quote }}
  {{- else }}
  - {{ .model | quote }}
  {{- end }}
  {{- with .servedModelName }}
  - {{ printf "--served-model-name=%s" . | quote }}
  {{- end }}
  - --port={{ .port }}
  {{- if $lora.enabled }}
  - --enable-lora
  - --max-loras={{ $lora.maxLoras }}
  - --max-cpu-loras={{ $lora.maxCpuLoras }}
  - --max-lora-rank={{ $lora.maxLoraRank }}
  {{- end }}
  {{- if and (int .shutdown.timeoutSeconds) (not (include "vllm-lora.older-than" (dict "model" . "version" "0.18.0"))) }}
  - --shutdown-timeout={{ int .shutdown.timeoutSeconds }}
  {{- end }}
  {{- range .args }}
  - {{ . | quote }}
  {{- end }}
  env:
  {{- include "vllm-lora.engine-env" . | nindent 2 }}
  ports:
  - name: http
    containerPort: {{ .port }}
  {{- if .lifecycle }}
  lifecycle:
    {{- toYaml .lifecycle | nindent 4 }}
  {{- else if int .shutdown.preStopSeconds }}
  lifecycle:
    preStop:
      sleep:
        seconds: {{ int .shutdown.preStopSeconds }}
  {{- end }}
  startupProbe:
    httpGet:
      path: /health
      port: http
    periodSeconds: 5
    failureThreshold: {{ div (add .startupSeconds 4) 5 }}
  readinessProbe:
    httpGet:
      path: /health
      port: http
  livenessProbe:  # while an adapter is read, /health still answers; a dead engine does not
    httpGet:
      path: /health
      port: http
    periodSeconds: 10
    timeoutSeconds: 5
    failureThreshold: 6
  resources:
    {{- include "vllm-lora.engine-resources" . | nindent 4 }}
  securityContext:
    {{- toYaml .securityContext | nindent 4 }}
  volumeMounts:
  - name: shm
    mountPath: /dev/shm
  {{- if .modelCache.enabled }}
  - name: model-cache
    mountPath: {{ .modelCache.mountPath }}
  {{- end }}
  {{- if $lora.enabled }}
  - name: adapters
    mountPath: {{ $.root.Values.delivery.root }}
    readOnly: true
  {{- end }}
  {{- with .volumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* What a model has under a name of ours in its own env counts instead; the API server refuses one name twice. */}}
{{- define "vllm-lora.engine-env" -}}
{{- $ours := list }}
{{- if .loraConfig.enabled }}
{{- $ours = append $ours (dict "name" "VLLM_ALLOW_RUNTIME_LORA_UPDATING" "value" "True") }}
{{- end }}
{{- if .apiKeySecret }}
{{- $ours = append $ours (dict "name" "VLLM_API_KEY" "valueFrom" (dict "secretKeyRef" .apiKeySecret)) }}
{{- end }}
{{- if .huggingFaceTokenSecret }}
{{- $ours = append $ours (dict "name" "HF_TOKEN" "valueFrom" (dict "secretKeyRef" .huggingFaceTokenSecret)) }}
{{- end }}
{{- if .modelCache.enabled }}
{{- $ours = append $ours (dict "name" "HF_HOME" "value" .modelCache.mountPath) }}
{{- end }}
{{- $theirs := list }}
{{- range .env }}
{{- $theirs = append $theirs .name }}
{{- end }}
{{- $all := list }}
{{- range $ours }}
{{- if not (has .name $theirs) }}
{{- $all = append $all . }}
{{- end }}
{{- end }}
{{- toYaml (concat $all (.env | default list)) }}
{{- end -}}

{{/* With the GPUs, unless the limits name them already. */}}
{{- define "vllm-lora.engine-resources" -}}
{{- $resources := deepCopy (.resources | default dict) }}
{{- if gt (int .gpus) 0 }}
{{- $limits := $resources.limits | default dict }}
{{- if not (hasKey $limits .gpuResource) }}
{{- $_ := set $limits .gpuResource (toString (int .gpus)) }}
{{- end }}
{{- $_ := set $resources "limits" $limits }}
{{- end }}
{{- if not $resources.limits }}
{{- $resources = omit $resources "limits" }}
{{- end }}
{{- toYaml $resources }}
{{- end -}}
