package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	authentication "k8s.io/api/authentication/v1"
	core "k8s.io/api/core/v1"
	kerrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	meta1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	kubefake "k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	gatewayfake "sigs.k8s.io/gateway-api/pkg/client/clientset/versioned/fake"

	istiofake "istio.io/client-go/pkg/clientset/versioned/fake"
	"istio.io/istio/pkg/config"
	"istio.io/istio/pkg/config/schema/gvk"
	"istio.io/istio/pkg/config/schema/gvr"
	"istio.io/istio/pkg/kube"
	"istio.io/istio/pkg/kube/kclient/clienttest"
	"istio.io/istio/pkg/test"
)

// What an API server would do to the objects, as far as istiod's answers depend on it.
type cluster struct {
	mu     sync.Mutex
	client kube.CLIClient
	slices slices
	count  int
}

// The kinds that istiod looks for before it watches them.
var kinds = []schema.GroupVersionResource{
	gvr.AuthorizationPolicy, gvr.PeerAuthentication, gvr.RequestAuthentication, gvr.ServiceEntry,
	gvr.WorkloadEntry, gvr.WorkloadGroup, gvr.Sidecar, gvr.Gateway, gvr.VirtualService,
	gvr.DestinationRule, gvr.EnvoyFilter, gvr.Telemetry, gvr.ProxyConfig, gvr.WasmPlugin,
	gvr.GatewayClass, gvr.KubernetesGateway, gvr.HTTPRoute, gvr.GRPCRoute, gvr.TCPRoute,
	gvr.TLSRoute, gvr.ReferenceGrant,
}

func newCluster() (*cluster, error) {
	client := kube.NewFakeClientWithVersion("36")
	err := test.Wrap(func(t test.Failer) {
		for _, kind := range kinds {
			clienttest.MakeCRD(t, client, kind)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("making the kinds known: %w", err)
	}
	fake, ok := client.Kube().(*kubefake.Clientset)
	if !ok {
		return nil, errors.New("the client is no fake")
	}
	fake.PrependReactor("create", "tokenreviews", reviewToken)
	c := &cluster{client: client}
	c.slices = newSlices(fake)
	return c, nil
}

// A token is good if it reads `NAMESPACE/ACCOUNT`: then it is that account's.
func reviewToken(action clienttesting.Action) (bool, runtime.Object, error) {
	create, ok := action.(clienttesting.CreateAction)
	if !ok {
		return false, nil, nil
	}
	review, ok := create.GetObject().DeepCopyObject().(*authentication.TokenReview)
	if !ok {
		return false, nil, nil
	}
	namespace, account, good := strings.Cut(review.Spec.Token, "/")
	if !good {
		review.Status.Error = "the token is not valid"
		return true, review, nil
	}
	review.Status.Authenticated = true
	review.Status.Audiences = review.Spec.Audiences
	review.Status.User = authentication.UserInfo{
		Username: "system:serviceaccount:" + namespace + ":" + account,
		Groups:   []string{"system:serviceaccounts"},
		Extra: map[string]authentication.ExtraValue{
			"authentication.kubernetes.io/pod-name": {"kmesh-node1"},
			"authentication.kubernetes.io/pod-uid":  {"uid"},
		},
	}
	return true, review, nil
}

func (c *cluster) applyFile(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return c.apply(text)
}

// apply makes the objects of YAML documents so, in their order.
func (c *cluster) apply(text []byte) error {
	return c.each(text, func(tracker clienttesting.ObjectTracker, at schema.GroupVersionResource, object runtime.Object, m meta1.Object) error {
		old, err := tracker.Get(at, m.GetNamespace(), m.GetName())
		if kerrors.IsNotFound(err) {
			c.born(m)
			return tracker.Create(at, object, m.GetNamespace())
		}
		if err != nil {
			return err
		}
		was, err := meta.Accessor(old)
		if err != nil {
			return err
		}
		m.SetUID(was.GetUID())
		m.SetCreationTimestamp(was.GetCreationTimestamp())
		c.version(m)
		return tracker.Update(at, object, m.GetNamespace())
	})
}

// remove takes the objects away; of each only kind and name are looked at.
func (c *cluster) remove(text []byte) error {
	return c.each(text, func(tracker clienttesting.ObjectTracker, at schema.GroupVersionResource, _ runtime.Object, m meta1.Object) error {
		// The fakes give up where a watcher is a hundred events behind.
		time.Sleep(time.Millisecond)
		return tracker.Delete(at, m.GetNamespace(), m.GetName())
	})
}

type act func(clienttesting.ObjectTracker, schema.GroupVersionResource, runtime.Object, meta1.Object) error

func (c *cluster) each(text []byte, do act) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	reader := yaml.NewYAMLReader(newLines(text))
	touched := map[string]bool{}
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if len(bytes.TrimSpace(document)) == 0 {
			continue
		}
		if err := c.one(document, touched, do); err != nil {
			return err
		}
	}
	return c.slices.follow(touched)
}

func (c *cluster) one(document []byte, touched map[string]bool, do act) error {
	object, kind, err := kube.IstioCodec.UniversalDeserializer().Decode(document, nil, nil)
	if err != nil {
		return fmt.Errorf("%w in %q", err, document)
	}
	m, err := meta.Accessor(object)
	if err != nil {
		return err
	}
	at, known := gvk.ToGVR(config.GroupVersionKind{Group: kind.Group, Version: kind.Version, Kind: kind.Kind})
	if !known {
		at, _ = meta.UnsafeGuessKindToResource(*kind)
	}
	if err := do(c.tracker(kind.Group), at, object, m); err != nil {
		return fmt.Errorf("%s %s/%s: %w", kind.Kind, m.GetNamespace(), m.GetName(), err)
	}
	switch object.(type) {
	case *core.Pod, *core.Service:
		touched[m.GetNamespace()] = true
	case *core.Node:
		c.slices.nodes(c.tracker(""))
	}
	return nil
}

func (c *cluster) tracker(group string) clienttesting.ObjectTracker {
	switch {
	case strings.HasSuffix(group, ".istio.io"):
		return c.client.Istio().(*istiofake.Clientset).Tracker()
	case group == "gateway.networking.k8s.io":
		return c.client.GatewayAPI().(*gatewayfake.Clientset).Tracker()
	default:
		return c.client.Kube().(*kubefake.Clientset).Tracker()
	}
}

// Istio sorts by age: objects are a second apart.
func (c *cluster) born(m meta1.Object) {
	c.version(m)
	if m.GetUID() == "" {
		m.SetUID(types.UID(fmt.Sprintf("uid-%d", c.count)))
	}
	if stamp := m.GetCreationTimestamp(); stamp.IsZero() {
		m.SetCreationTimestamp(meta1.NewTime(time.Unix(1_700_000_000+int64(c.count), 0)))
	}
}

func (c *cluster) version(m meta1.Object) {
	c.count++
	m.SetResourceVersion(fmt.Sprint(c.count))
}
