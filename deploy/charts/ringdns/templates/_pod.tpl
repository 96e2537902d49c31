{{/* The pods' template, for the Deployment and the DaemonSet. */}}

{{- define "ringdns.priorityClass" -}}
{{- if .Values.priorityClassName -}}
{{- .Values.priorityClassName -}}
{{- else if and .Values.isClusterService (eq .Release.Namespace "kube-system") -}}
system-cluster-critical
{{- end -}}
{{- end -}}

{{- define "ringdns.probe" -}}
httpGet:
  path: {{ .path }}
  port: {{ .port }}
  scheme: HTTP
{{ omit .values "enabled" | toYaml }}
{{- end -}}

{{- define "ringdns.pod" -}}
{{- $selector := include "ringdns.selector" (list . "") | fromYaml -}}
metadata:
  labels:
    {{- mergeOverwrite $selector .Values.customLabels | toYaml | nindent 4 }}
  annotations:
    checksum/config: {{ include (print .Template.BasePath "/configmap.yaml") . | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- with .Values.podSecurityContext }}
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
  {{- if .Values.isClusterService }}
  dnsPolicy: Default
  {{- end }}
  affinity:
    {{- if .Values.affinity }}
    {{- toYaml .Values.affinity | nindent 4 }}
    {{- else }}
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
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.nodeSelector }}
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
  - name: coredns
    image: {{ printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag | toString) | quote }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    args: [-conf, /etc/coredns/Corefile]
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
    {{- with .Values.resources }}
    resources:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    ports:
      {{- include "ringdns.containerPorts" . | nindent 6 }}
    {{- if .Values.livenessProbe.enabled }}
    livenessProbe:
      {{- include "ringdns.probe" (dict "path" "/health" "port" 8080 "values" .Values.livenessProbe) | nindent 6 }}
    {{- end }}
    {{- if .Values.readinessProbe.enabled }}
    readinessProbe:
      {{- include "ringdns.probe" (dict "path" "/ready" "port" 8181 "values" .Values.readinessProbe) | nindent 6 }}
    {{- end }}
    {{- with .Values.preStopSleep }}
    lifecycle:
      preStop:
        sleep:
          seconds: {{ . }}
    {{- end }}
    {{- with .Values.securityContext }}
    securityContext:
      {{- toYaml . | nindent 6 }}
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
