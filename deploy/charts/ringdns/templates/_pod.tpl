{{/* The pods' template, for the Deployment and the DaemonSets. */}}

{{- define "ringdns.priorityClass" -}}
{{- if .Values.priorityClassName -}}
{{- .Values.priorityClassName -}}
{{- else if .Values.nodeLocal.enabled -}}
system-node-critical
{{- else if and .Values.isClusterService (eq .Release.Namespace "kube-system") -}}
system-cluster-critical
{{- end -}}
{{- end -}}

{{- define "ringdns.probe" -}}
httpGet:
  {{- with .host }}
  host: {{ . | quote }}
  {{- end }}
  path: {{ .path }}
  port: {{ .port }}
  scheme: HTTP
{{ omit .values "enabled" | toYaml }}
{{- end -}}

{{/* With nodeLocal, the interface and the rules need NET_ADMIN, which only root gets. */}}
{{- define "ringdns.securityContext" -}}
{{- $context := deepCopy .Values.securityContext -}}
{{- if .Values.nodeLocal.enabled -}}
{{- $context = omit $context "runAsNonRoot" "runAsGroup" -}}
{{- $_ := set $context "runAsUser" 0 -}}
{{- $capabilities := deepCopy (default dict $context.capabilities) -}}
{{- $added := concat (list "NET_ADMIN") (default list $capabilities.add) | uniq -}}
{{- $_ := set $capabilities "add" $added -}}
{{- $_ := set $context "capabilities" $capabilities -}}
{{- end -}}
{{- with $context -}}{{- toYaml . -}}{{- end -}}
{{- end -}}

{{/* The annotations of the pods, without the checksum. */}}
{{- define "ringdns.podAnnotations" -}}
{{- $annotations := deepCopy .Values.podAnnotations -}}
{{- if .Values.nodeLocal.enabled -}}
{{- $port := (include "ringdns.metricsPorts" . | fromJson).ports | first -}}
{{- $scrape := dict "prometheus.io/scrape" "true" "prometheus.io/port" (toString $port) -}}
{{- $annotations = merge $annotations (ternary $scrape dict (not (empty $port))) -}}
{{- end -}}
{{- with $annotations -}}{{- toYaml . -}}{{- end -}}
{{- end -}}

{{- define "ringdns.pod" -}}
{{- $selector := include "ringdns.selector" (list . "") | fromYaml -}}
{{- /* A label by which the pods are found cannot be another one. */ -}}
{{- $selected := deepCopy $selector -}}
{{- $dnsConfig := default .Values.deployment.dnsConfig .Values.dnsConfig -}}
{{- $node := .Values.nodeLocal -}}
{{- $host := ternary (first $node.localIPs) "" $node.enabled -}}
{{- $resources := ternary $node.resources .Values.resources $node.enabled -}}
{{- $tolerations := ternary $node.tolerations .Values.tolerations $node.enabled -}}
{{- $linux := ternary (dict "kubernetes.io/os" "linux") dict $node.enabled -}}
{{- /* The node's network has sysctls of its own. */ -}}
{{- $podSecurity := ternary (omit .Values.podSecurityContext "sysctls") .Values.podSecurityContext $node.enabled -}}
metadata:
  labels:
    {{- mergeOverwrite $selector .Values.customLabels .Values.podLabels $selected | toYaml | nindent 4 }}
  annotations:
    checksum/config: {{ include (print .Template.BasePath "/configmap.yaml") . | sha256sum }}
    {{- with include "ringdns.podAnnotations" . }}
    {{- . | nindent 4 }}
    {{- end }}
spec:
  {{- if $node.enabled }}
  hostNetwork: true
  {{- end }}
  {{- with $podSecurity }}
  securityContext:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.terminationGracePeriodSeconds }}
  terminationGracePeriodSeconds: {{ . }}
  {{- end }}
  serviceAccountName: {{ include "coredns.serviceAccountName" . }}
  {{- with include "ringdns.priorityClass" . }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- if .Values.dnsConfig }}
  dnsPolicy: None
  {{- else if .Values.deployment.dnsPolicy }}
  dnsPolicy: {{ .Values.deployment.dnsPolicy }}
  {{- else if or .Values.isClusterService $node.enabled }}
  dnsPolicy: Default
  {{- end }}
  {{- with $dnsConfig }}
  dnsConfig:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if .Values.affinity }}
  affinity:
    {{- toYaml .Values.affinity | nindent 4 }}
  {{- else if not $node.enabled }}
  affinity:
    podAntiAffinity:
      preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "ringdns.selector" (list . "") | nindent 14 }}
  {{- end }}
  {{- with .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- tpl (toYaml .) $ | nindent 4 }}
  {{- end }}
  {{- with $tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with merge (deepCopy .Values.nodeSelector) $linux }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.image.pullSecrets }}
  imagePullSecrets:
    {{- include "ringdns.pullSecrets" . | nindent 4 }}
  {{- end }}
  {{- with .Values.initContainers }}
  initContainers:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
  - name: {{ ternary "node-cache" "coredns" $node.enabled }}
    image: {{ printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag | toString) | quote }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    {{- if $node.enabled }}
    args: [-localip, {{ join "," $node.localIPs | quote }}, -conf, /etc/coredns/Corefile, --take-over]
    {{- else }}
    args: [-conf, /etc/coredns/Corefile]
    {{- end }}
    {{- with .Values.env }}
    env:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    volumeMounts:
    - name: config-volume
      mountPath: /etc/coredns
      readOnly: true
    {{- range .Values.extraSecrets }}
    - name: {{ .name }}
      mountPath: {{ .mountPath }}
      readOnly: true
    {{- end }}
    {{- with .Values.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- with $resources }}
    resources:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- /* Two pods with one port of a node would exclude each other, and an upgrade needs both. */}}
    {{- if not $node.enabled }}
    ports:
      {{- include "ringdns.containerPorts" . | nindent 6 }}
    {{- end }}
    {{- if .Values.livenessProbe.enabled }}
    livenessProbe:
      {{- include "ringdns.probe" (dict "host" $host "path" "/health" "port" 8080 "values" .Values.livenessProbe) | nindent 6 }}
    {{- end }}
    {{- if .Values.readinessProbe.enabled }}
    readinessProbe:
      {{- include "ringdns.probe" (dict "host" $host "path" "/ready" "port" 8181 "values" .Values.readinessProbe) | nindent 6 }}
    {{- end }}
    {{- with .Values.preStopSleep }}
    lifecycle:
      preStop:
        sleep:
          seconds: {{ . }}
    {{- end }}
    {{- with include "ringdns.securityContext" . }}
    securityContext:
      {{- . | nindent 6 }}
    {{- end }}
  {{- with .Values.extraContainers }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  volumes:
  - name: config-volume
    configMap:
      name: {{ include "coredns.fullname" . }}
  {{- range .Values.extraSecrets }}
  - name: {{ .name }}
    secret:
      secretName: {{ .name }}
      defaultMode: {{ default 292 .defaultMode }}
  {{- end }}
  {{- with .Values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}
