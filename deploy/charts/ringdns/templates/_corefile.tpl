{{/* The Corefile and the ports that it names. */}}

{{/* A value as a word: numbers without an exponent. */}}
{{- define "ringdns.word" -}}
{{- if kindIs "float64" . -}}{{- toJson . -}}{{- else -}}{{- toString . -}}{{- end -}}
{{- end -}}

{{/* The parameters of a plugin: `list CONTEXT PLUGIN`. With nodeLocal, endpoints are on the node. */}}
{{- define "ringdns.parameters" -}}
{{- $node := (index . 0).Values.nodeLocal -}}
{{- $plugin := index . 1 -}}
{{- $parameters := $plugin.parameters -}}
{{- if $node.enabled -}}
{{- if and (eq $plugin.name "health") (not $parameters) -}}
{{- $parameters = print (include "ringdns.nodeHost" $node) ":8080" -}}
{{- else if and (eq $plugin.name "ready") (not $parameters) -}}
{{- $parameters = print (include "ringdns.nodeHost" $node) ":8181" -}}
{{- else if and (eq $plugin.name "prometheus") (has (toString $parameters) (list "<nil>" "" ":9153" "0.0.0.0:9153")) -}}
{{- $parameters = print ":" (int $node.metricsPort) -}}
{{- end -}}
{{- end -}}
{{- with $parameters -}}{{- include "ringdns.word" . -}}{{- end -}}
{{- end -}}

{{/* The first of nodeLocal's addresses, as a host before a port. */}}
{{- define "ringdns.nodeHost" -}}
{{- $ip := first .localIPs -}}
{{- contains ":" $ip | ternary (printf "[%s]" $ip) $ip -}}
{{- end -}}

{{- define "ringdns.corefile" -}}
{{- range $name, $line := .Values.extraConfig -}}
{{- $name -}}{{- with $line -}}{{- with .parameters }} {{ include "ringdns.word" . }}{{- end -}}{{- end }}
{{ end -}}
{{- range .Values.servers -}}
{{- range $index, $zone := .zones -}}
{{- if $index }} {{ end -}}{{- default "" $zone.scheme -}}{{- default "." $zone.zone -}}
{{- else -}}.{{- end -}}
{{- with .port -}}:{{- include "ringdns.word" . -}}{{- end }} {
{{- $names := list -}}
{{- range .plugins -}}{{- $names = append $names .name -}}{{- end -}}
{{- if and $.Values.nodeLocal.enabled (not (has "bind" $names)) }}
    bind {{ join " " $.Values.nodeLocal.localIPs }}
{{- end }}
{{- range .plugins }}
    {{ .name }}{{ with include "ringdns.parameters" (list $ .) }} {{ . }}{{ end }}
    {{- with .configBlock }} {
{{ . | trimSuffix "\n" | indent 8 }}
    }{{ end }}
{{- end }}
}
{{ end -}}
{{- end -}}

{{/* The ports of the servers, as JSON: port → udp, tcp, servicePort, nodePort, hostPort. */}}
{{- define "ringdns.ports" -}}
{{- $ports := dict -}}
{{- range .Values.servers -}}
{{- $number := include "ringdns.word" (default 53 .port) -}}
{{- $port := default dict (get $ports $number) -}}
{{- range default (list dict) .zones -}}
{{- $scheme := default "dns://" .scheme -}}
{{- if eq $scheme "dns://" -}}
{{- $_ := set $port "udp" true -}}
{{- if ne (toString .use_tcp) "false" -}}{{- $_ := set $port "tcp" true -}}{{- end -}}
{{- else if has $scheme (list "quic://" "https3://") -}}
{{- $_ := set $port "udp" true -}}
{{- else -}}
{{- $_ := set $port "tcp" true -}}
{{- end -}}
{{- end -}}
{{- /* The first server on a port names it, as in CoreDNS's chart. */ -}}
{{- if not (hasKey $port "servicePort") -}}
{{- $_ := set $port "servicePort" (include "ringdns.word" (default (default 53 .port) .servicePort) | int) -}}
{{- end -}}
{{- with .nodePort -}}{{- $_ := set $port "nodePort" (int .) -}}{{- end -}}
{{- with .hostPort -}}{{- $_ := set $port "hostPort" (int .) -}}{{- end -}}
{{- $_ := set $ports $number $port -}}
{{- end -}}
{{- toJson $ports -}}
{{- end -}}

{{- define "ringdns.servicePorts" -}}
{{- $list := list -}}
{{- range $number, $port := include "ringdns.ports" . | fromJson -}}
{{- range $protocol := list "udp" "tcp" -}}
{{- if get $port $protocol -}}
{{- $entry := dict "name" (printf "%s-%s" $protocol $number) "protocol" (upper $protocol) -}}
{{- $_ := set $entry "port" (int $port.servicePort) -}}
{{- $_ := set $entry "targetPort" (int $number) -}}
{{- with $port.nodePort -}}{{- $_ := set $entry "nodePort" (int .) -}}{{- end -}}
{{- $list = append $list $entry -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $list -}}
{{- end -}}

{{/* The ports that `prometheus` listens on. */}}
{{- define "ringdns.metricsPorts" -}}
{{- $found := list -}}
{{- range .Values.servers -}}
{{- range .plugins -}}
{{- if eq .name "prometheus" -}}
{{- $address := default ":9153" (include "ringdns.parameters" (list $ .)) -}}
{{- $found = append $found (regexFind "[0-9]+$" $address | int) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- dict "ports" (uniq $found) | toJson -}}
{{- end -}}

{{- define "ringdns.containerPorts" -}}
{{- $list := list -}}
{{- range $number, $port := include "ringdns.ports" . | fromJson -}}
{{- range $protocol := list "udp" "tcp" -}}
{{- if get $port $protocol -}}
{{- $entry := dict "name" (printf "%s-%s" $protocol $number) "protocol" (upper $protocol) -}}
{{- $_ := set $entry "containerPort" (int $number) -}}
{{- with $port.hostPort -}}{{- $_ := set $entry "hostPort" (int .) -}}{{- end -}}
{{- $list = append $list $entry -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range (include "ringdns.metricsPorts" . | fromJson).ports -}}
{{- $list = append $list (dict "name" (printf "tcp-%d" (int .)) "protocol" "TCP" "containerPort" (int .)) -}}
{{- end -}}
{{- toYaml $list -}}
{{- end -}}
