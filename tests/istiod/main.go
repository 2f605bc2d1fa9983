// Istiod's own server in one process, before a Kubernetes of fakes that is told what there is.
//
//	kmesh-istiod --control SOCKET [--grpc ADDR] [--tls ADDR] [--root FILE] [OBJECTS…]
//
// What runs is bootstrap.NewServer of istio.io/istio as `pilot-discovery` runs it: ambient index,
// debounce, delta ADS, certificates and token authentication. Only the API server behind it is
// client-go's fake. Objects are files, or sent to the control socket (see control.go). Leader
// election, injection, and what writes status or deploys waypoints is off: there is nobody to do
// the rest of that work, so a waypoint's Service, pods and status are given as objects, too.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"reflect"
	"syscall"
	"unsafe"

	"istio.io/istio/pilot/pkg/bootstrap"
	"istio.io/istio/pilot/pkg/serviceregistry/provider"
	"istio.io/istio/pkg/kube"
	"istio.io/istio/pkg/log"
)

// Read by istiod's packages when they are initialised; what the caller sets goes before.
var settings = map[string]string{
	"PILOT_ENABLE_AMBIENT":                             "true",
	"ENABLE_LEADER_ELECTION":                           "false",
	"INJECT_ENABLED":                                   "false",
	"VALIDATION_WEBHOOK_CONFIG_NAME":                   "",
	"AMBIENT_ENABLE_STATUS":                            "false",
	"PILOT_ENABLE_GATEWAY_API_STATUS":                  "false",
	"PILOT_ENABLE_GATEWAY_API_DEPLOYMENT_CONTROLLER":   "false",
	"PILOT_ENABLE_GATEWAY_API_GATEWAYCLASS_CONTROLLER": "false",
	"POD_NAMESPACE":                                    "istio-system",
	"CLUSTER_ID":                                       "Kubernetes",
	"TOKEN_AUDIENCES":                                  "istio-ca",
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "kmesh-istiod:", err)
		os.Exit(1)
	}
}

func run() error {
	if err := withSettings(); err != nil {
		return err
	}
	grpc := flag.String("grpc", "127.0.0.1:15010", "address without TLS")
	tls := flag.String("tls", "", "address with TLS and tokens; none if empty")
	root := flag.String("root", "", "where to write the root certificate")
	socket := flag.String("control", "", "socket to be told objects at")
	flag.Parse()
	logs := log.DefaultOptions()
	logs.SetDefaultOutputLevel(log.OverrideScopeName, log.WarnLevel)
	logs.SetDefaultOutputLevel("ads", log.InfoLevel)
	logs.SetDefaultOutputLevel("delta", log.InfoLevel)
	if err := log.Configure(logs); err != nil {
		return err
	}
	cluster, err := newCluster()
	if err != nil {
		return err
	}
	for _, file := range flag.Args() {
		if err := cluster.applyFile(file); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	server, err := newServer(cluster.client, *grpc, *tls)
	if err != nil {
		return err
	}
	stop := make(chan struct{})
	if err := server.Start(stop); err != nil {
		return err
	}
	if *root != "" {
		pem := server.CA.GetCAKeyCertBundle().GetRootCertPem()
		if err := os.WriteFile(*root, pem, 0o644); err != nil {
			return err
		}
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	if err := cluster.control(*socket); err != nil {
		return err
	}
	fmt.Println("ready")
	<-ended
	close(stop)
	server.WaitUntilCompletion()
	return nil
}

// withSettings starts this program anew with the settings that are missing.
func withSettings() error {
	missing := false
	for name, value := range settings {
		if _, set := os.LookupEnv(name); !set {
			missing = true
			if err := os.Setenv(name, value); err != nil {
				return err
			}
		}
	}
	if !missing {
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return syscall.Exec(self, os.Args, os.Environ())
}

func newServer(client kube.Client, grpc, tls string) (*bootstrap.Server, error) {
	args := bootstrap.NewPilotArgs(func(p *bootstrap.PilotArgs) {
		p.ServerOptions = bootstrap.DiscoveryServerOptions{
			HTTPAddr:       "127.0.0.1:0",
			MonitoringAddr: "127.0.0.1:0",
			GRPCAddr:       grpc,
			SecureGRPCAddr: tls,
		}
		p.RegistryOptions.Registries = []string{string(provider.Kubernetes)}
		p.RegistryOptions.KubeOptions.DomainSuffix = "cluster.local"
		p.RegistryOptions.KubeOptions.ClusterID = "Kubernetes"
	})
	return bootstrap.NewServer(args, func(s *bootstrap.Server) {
		// Istio's own tests set this field; outside of its package there is only this way.
		field := reflect.ValueOf(s).Elem().FieldByName("kubeClient")
		field = reflect.NewAt(field.Type(), unsafe.Pointer(field.UnsafeAddr())).Elem()
		field.Set(reflect.ValueOf(client))
	})
}
