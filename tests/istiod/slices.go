package main

import (
	"fmt"
	"time"

	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	meta1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes/fake"
	listers "k8s.io/client-go/listers/core/v1"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/endpointslice"
	tracking "k8s.io/endpointslice/util"
	"k8s.io/klog/v2"

	"istio.io/istio/pkg/config/schema/gvk"
	"istio.io/istio/pkg/config/schema/gvr"
)

const sliceController = "endpointslice-controller.k8s.io"

// EndpointSlices of services with a selector, by Kubernetes' own reconciler.
type slices struct {
	tracker    clienttesting.ObjectTracker
	known      cache.Indexer
	reconciler *endpointslice.Reconciler
}

func newSlices(client *fake.Clientset) slices {
	known := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{})
	return slices{
		tracker: client.Tracker(),
		known:   known,
		reconciler: endpointslice.NewReconciler(client, listers.NewNodeLister(known), 100,
			tracking.NewEndpointSliceTracker(), nil, &record.FakeRecorder{}, sliceController,
			endpointslice.WithPreferSameTrafficDistributionEnabled(true)),
	}
}

// nodes learns the nodes anew: the reconciler skips pods of nodes that it does not know.
func (s slices) nodes(tracker clienttesting.ObjectTracker) {
	found, err := tracker.List(gvr.Node, gvk.Node.Kubernetes(), "")
	if err != nil {
		return
	}
	all := []any{}
	for i := range found.(*core.NodeList).Items {
		all = append(all, &found.(*core.NodeList).Items[i])
	}
	_ = s.known.Replace(all, "")
}

// follow brings the slices of these namespaces up to their services and pods.
func (s slices) follow(namespaces map[string]bool) error {
	for namespace := range namespaces {
		if err := s.namespace(namespace); err != nil {
			return fmt.Errorf("the slices of namespace %s: %w", namespace, err)
		}
	}
	return nil
}

func (s slices) namespace(namespace string) error {
	services, err := s.tracker.List(gvr.Service, gvk.Service.Kubernetes(), namespace)
	if err != nil {
		return err
	}
	pods, err := s.tracker.List(gvr.Pod, gvk.Pod.Kubernetes(), namespace)
	if err != nil {
		return err
	}
	slices, err := s.tracker.List(gvr.EndpointSlice, gvk.EndpointSlice.Kubernetes(), namespace)
	if err != nil {
		return err
	}
	existing := map[string][]*discovery.EndpointSlice{}
	for i := range slices.(*discovery.EndpointSliceList).Items {
		slice := &slices.(*discovery.EndpointSliceList).Items[i]
		if slice.Labels[discovery.LabelManagedBy] == sliceController {
			name := slice.Labels[discovery.LabelServiceName]
			existing[name] = append(existing[name], slice)
		}
	}
	for i := range services.(*core.ServiceList).Items {
		service := &services.(*core.ServiceList).Items[i]
		of := existing[service.Name]
		delete(existing, service.Name)
		if service.Spec.Selector == nil || service.Spec.Type == core.ServiceTypeExternalName {
			continue
		}
		if err := s.service(service, pods.(*core.PodList), of); err != nil {
			return fmt.Errorf("of service %s: %w", service.Name, err)
		}
	}
	return s.orphans(existing)
}

func (s slices) service(service *core.Service, pods *core.PodList, of []*discovery.EndpointSlice) error {
	selector := labels.Set(service.Spec.Selector).AsSelectorPreValidated()
	var chosen []*core.Pod
	for i := range pods.Items {
		if selector.Matches(labels.Set(pods.Items[i].Labels)) {
			chosen = append(chosen, &pods.Items[i])
		}
	}
	return s.reconciler.Reconcile(klog.Background(), service, chosen, of, time.Now())
}

func (s slices) orphans(existing map[string][]*discovery.EndpointSlice) error {
	for _, of := range existing {
		for _, slice := range of {
			if err := s.tracker.Delete(gvr.EndpointSlice, slice.Namespace, slice.Name, meta1.DeleteOptions{}); err != nil {
				return err
			}
		}
	}
	return nil
}
