// Prints deploy/seccomp/ringdns.json: containerd's default profile (RuntimeDefault) for a container
// with CAP_NET_BIND_SERVICE as its only capability, and the three calls of io_uring. See
// ../README.md.
//
// containerd makes its profile for the machine that it runs on. This is the union of those for
// amd64 and arm64: a call that one of them lacks has no number there and changes nothing.
package main

import (
	"encoding/json"
	"os"
	"runtime"
	"slices"

	"github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// What ringdns needs and RuntimeDefault lacks.
var ioUring = []string{"io_uring_enter", "io_uring_register", "io_uring_setup"}

// Which of its calls containerd allows on arm64 only (contrib/seccomp, `case "arm", "arm64"`).
var onArm = []string{"arm_fadvise64_64", "arm_sync_file_range", "breakpoint", "cacheflush", "set_tls", "sync_file_range2"}

func main() {
	if runtime.GOARCH != "amd64" {
		panic("run it on amd64: the profile starts from containerd's for amd64")
	}
	capabilities := []string{"CAP_NET_BIND_SERVICE"}
	profile := seccomp.DefaultProfile(&specs.Spec{Process: &specs.Process{
		Capabilities: &specs.LinuxCapabilities{
			Bounding: capabilities, Effective: capabilities, Permitted: capabilities,
		},
	}})
	profile.Architectures = []specs.Arch{
		specs.ArchX86_64, specs.ArchX86, specs.ArchX32, specs.ArchAARCH64, specs.ArchARM,
	}
	for _, calls := range profile.Syscalls {
		slices.Sort(calls.Names)
	}
	allow := func(names []string) {
		profile.Syscalls = append(profile.Syscalls, specs.LinuxSyscall{Names: names, Action: specs.ActAllow})
	}
	allow(onArm)
	if len(os.Args) < 2 || os.Args[1] != "-base" {
		allow(ioUring)
	}
	printed := json.NewEncoder(os.Stdout)
	printed.SetIndent("", "  ")
	if err := printed.Encode(profile); err != nil {
		panic(err)
	}
}
