//! What `/metrics` says: [`Facts`] in the text format of Prometheus.

use std::fmt;
use std::sync::Mutex;

use kmesh_bpf::denials;
use kmesh_bpf::layout::{COUNTERS, RevokedReason};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::desired::{Awaited, Oddities};
use crate::status::{Facts, Phase, XdsFacts};

/// The text for these facts.
pub(crate) fn text(facts: Facts, ready: bool) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    let memory = procfs::process::Process::myself().and_then(|me| me.status()).ok();
    let kib = |pages: Option<u64>| pages.unwrap_or_default() * 1024;
    registry.register_collector(Box::new(Mesh {
        ready,
        resident: kib(memory.as_ref().and_then(|memory| memory.vmrss)),
        anonymous: kib(memory.as_ref().and_then(|memory| memory.rssanon)),
        facts: Mutex::new(facts),
    }));
    let mut out = String::new();
    prometheus_client::encoding::text::encode(&mut out, &registry)?;
    Ok(out)
}

#[derive(Debug)]
struct Mesh {
    ready: bool,
    resident: u64,
    anonymous: u64,
    facts: Mutex<Facts>,
}

type Encoded = Result<(), fmt::Error>;

fn metric<'a>(
    to: &'a mut DescriptorEncoder,
    name: &'a str,
    help: &'a str,
    kind: MetricType,
) -> Result<MetricEncoder<'a>, fmt::Error> {
    to.encode_descriptor(name, help, None, kind)
}

fn gauge(to: &mut DescriptorEncoder, name: &str, help: &str, value: u64) -> Encoded {
    let encoder = metric(to, name, help, MetricType::Gauge)?;
    ConstGauge::new(to_f64(value)).encode(encoder)
}

fn counter(to: &mut DescriptorEncoder, name: &str, help: &str, value: u64) -> Encoded {
    let encoder = metric(to, name, help, MetricType::Counter)?;
    ConstCounter::new(value).encode(encoder)
}

/// One gauge with one label and a value for each of its words.
fn gauges<'a>(
    to: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    label: &'static str,
    values: impl Iterator<Item = (&'a str, f64)>,
) -> Encoded {
    let mut encoder = metric(to, name, help, MetricType::Gauge)?;
    for (word, value) in values {
        let labels = [(label, word)];
        ConstGauge::new(value).encode(encoder.encode_family(&labels)?)?;
    }
    Ok(())
}

/// One counter with one label and a value for each of its words.
fn counters<'a>(
    to: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    label: &'static str,
    values: impl Iterator<Item = (&'a str, u64)>,
) -> Encoded {
    let mut encoder = metric(to, name, help, MetricType::Counter)?;
    for (word, value) in values {
        let labels = [(label, word)];
        ConstCounter::new(value).encode(encoder.encode_family(&labels)?)?;
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "counts of things on one machine")]
fn to_f64(value: u64) -> f64 {
    value as f64
}

impl Collector for Mesh {
    fn encode(&self, mut to: DescriptorEncoder) -> Encoded {
        let facts = self.facts.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let to = &mut to;
        for (at, kernel) in COUNTERS.iter().enumerate() {
            let name = format!("kmesh_{}", kernel.name);
            counter(to, &name, kernel.help, facts.counters.get(at).copied().unwrap_or_default())?;
        }
        Self::writes(to, &facts)?;
        self.model(to, &facts)?;
        Self::control_plane(to, &facts.xds)?;
        Self::denials(to, &facts)?;
        Self::live(to, &facts)?;
        Self::maps(to, &facts)?;
        self.process(to, &facts)
    }
}

impl Mesh {
    fn writes(to: &mut DescriptorEncoder, facts: &Facts) -> Encoded {
        let cost = &facts.cost;
        counter(to, "kmesh_syncs", "changes that took hold", facts.applies)?;
        counter(to, "kmesh_sync_errors", "changes that did not take hold", facts.apply_errors)?;
        let help = "map elements written or removed by this process";
        counter(to, "kmesh_map_elements_written", help, cost.elements)?;
        counter(to, "kmesh_map_write_calls", "writing calls into the kernel", cost.calls)?;
        counter(to, "kmesh_grace_periods", "grace periods waited for", cost.graces)?;
        let help = "failed writes that were planned again";
        counter(to, "kmesh_sync_retries", help, u64::from(cost.retries))?;
        gauge(to, "kmesh_generation", "of kmesh_meta; odd while writing", facts.generation)?;
        let help = "last snapshots that could not be written";
        counter(to, "kmesh_snapshot_errors", help, facts.snapshot_errors)?;
        let Some(last) = facts.last_sync else {
            return Ok(());
        };
        let age = last.elapsed().as_secs_f64();
        let help = "seconds since the tables last came to say what the mesh says";
        ConstGauge::new(age).encode(metric(
            to,
            "kmesh_last_sync_age_seconds",
            help,
            MetricType::Gauge,
        )?)
    }

    fn model(&self, to: &mut DescriptorEncoder, facts: &Facts) -> Encoded {
        gauge(to, "kmesh_ready", "1 when the daemon is ready", u64::from(self.ready))?;
        counter(to, "kmesh_mesh_files_taken", "mesh files read and taken", facts.files_taken)?;
        counter(to, "kmesh_mesh_files_refused", "mesh files refused", facts.files_refused)?;
        let help = "1 while the last mesh file read was refused";
        gauge(to, "kmesh_mesh_file_bad", help, u64::from(facts.refused.is_some()))?;
        gauge(to, "kmesh_services", "services that the mesh names", facts.model.0 as u64)?;
        gauge(to, "kmesh_workloads", "workloads that the mesh names", facts.model.1 as u64)?;
        Self::oddities(to, &facts.oddities)?;
        let help = "authorization policies that the mesh names";
        gauge(to, "kmesh_policies", help, facts.policies as u64)?;
        let help = "sets of policies that could not be brought in force as they are written";
        gauge(to, "kmesh_policies_refused", help, facts.policies_refused.len() as u64)?;
        gauge(to, "kmesh_pods", "pods enrolled by this process", facts.pods as u64)?;
        let help = "pods that are managed and whose connections are NOT authorized: no hook";
        gauge(to, "kmesh_pods_without_hook", help, facts.pods_unhooked as u64)?;
        let help = "pods whose network namespace, or whose hook, is not there";
        gauge(to, "kmesh_pods_waiting", help, facts.pods_waiting.len() as u64)
    }

    fn oddities(to: &mut DescriptorEncoder, odd: &Oddities) -> Encoded {
        let help = "VIPs in other networks: nothing leads there from here";
        gauge(to, "kmesh_vips_elsewhere", help, odd.vips_elsewhere as u64)?;
        let left_out = odd.vips_left_out.values().copied().map(u64::from).sum();
        let help = "VIPs that are not one host's (ranges, groups): they are left out";
        gauge(to, "kmesh_vips_left_out", help, left_out)?;
        let help = "VIPs that several services claim";
        gauge(to, "kmesh_vips_contested", help, odd.contested.len() as u64)?;
        let help = "workloads whose hostname was not resolved";
        gauge(to, "kmesh_workloads_unresolved", help, odd.unresolved as u64)?;
        let help = "waypoints that are named and not known";
        gauge(to, "kmesh_waypoints_unknown", help, odd.waypoints.len() as u64)?;
        let sum = |which: fn(&Awaited) -> usize| odd.waypoints.iter().map(which).sum::<usize>();
        let refused = |one: &Awaited| if one.endpoints == 0 { one.others } else { 0 };
        let last = |one: &Awaited| if one.endpoints == 0 { 0 } else { one.others };
        let waiting = [
            ("as before", sum(|one| one.staying)),
            ("last endpoints", sum(last)),
            ("refused", sum(refused)),
        ];
        let waiting = waiting.into_iter().map(|(meets, n)| (meets, to_f64(n as u64)));
        let help = "services and workloads whose waypoint is not known, by what they meet";
        gauges(to, "kmesh_waypoint_waiting", help, "meets", waiting)
    }

    fn control_plane(to: &mut DescriptorEncoder, xds: &XdsFacts) -> Encoded {
        let help = "1 while the control plane is connected";
        gauge(to, "kmesh_xds_connected", help, u64::from(xds.connected_at.is_some()))?;
        let help = "connections to the control plane that came about";
        counter(to, "kmesh_xds_connections", help, xds.connects)?;
        counter(to, "kmesh_xds_responses", "responses of the control plane", xds.responses)?;
        let help = "responses of which something was refused";
        counter(to, "kmesh_xds_nacks", help, xds.nacks)?;
        counter(to, "kmesh_xds_refusals", "resources that were refused", xds.refusals)?;
        let help = "resources that are refused now, the first thousand";
        gauge(to, "kmesh_xds_rejected", help, xds.refused.len() as u64)?;
        let help = "1 while an answer is too small to be believed";
        gauge(to, "kmesh_xds_held_back", help, u64::from(xds.held_back.is_some()))?;
        let resources =
            [("workload", xds.workloads), ("service", xds.services), ("policy", xds.policies)];
        let resources = resources.into_iter().map(|(kind, n)| (kind, to_f64(n as u64)));
        let help = "resources that the control plane names";
        gauges(to, "kmesh_xds_resources", help, "kind", resources)
    }

    fn live(to: &mut DescriptorEncoder, facts: &Facts) -> Encoded {
        let help = "inbound connections that were judged again";
        counter(to, "kmesh_live_judged", help, facts.live.judged)?;
        let ended = |reason| facts.live.ended.get(&reason).copied().unwrap_or_default();
        let reasons = RevokedReason::ALL.into_iter().map(|one| (one.name(), ended(one)));
        let help = "live connections that were ended: policies deny them by now";
        counters(to, "kmesh_live_ended", help, "reason", reasons)?;
        let help = "times that a pod's live connections could not be listed, judged or ended";
        counter(to, "kmesh_live_errors", help, facts.live.errors)
    }

    fn denials(to: &mut DescriptorEncoder, facts: &Facts) -> Encoded {
        let help = "connections that were kept out of pods, all of them";
        let reasons = denials::reasons().map(|(reason, name)| (reason, facts.counter(name)));
        counters(to, "kmesh_denials", help, "reason", reasons)?;
        let help = "denials that found no room in the ring, and were not told";
        counter(to, "kmesh_denials_lost", help, facts.counter("auth_lost"))?;
        let help = "denials that were logged one by one";
        counter(to, "kmesh_denials_logged", help, facts.denials.logged)?;
        let help = "denials that came too fast to be logged one by one";
        counter(to, "kmesh_denials_suppressed", help, facts.denials.suppressed)
    }

    fn maps(to: &mut DescriptorEncoder, facts: &Facts) -> Encoded {
        let used = facts.usage.iter().map(|map| (map.map.name(), to_f64(map.used)));
        gauges(to, "kmesh_map_entries", "elements in use", "map", used)?;
        let limits = facts.usage.iter().map(|map| (map.map.name(), f64::from(map.limit)));
        gauges(to, "kmesh_map_limit", "elements that it can hold", "map", limits)
    }

    fn process(&self, to: &mut DescriptorEncoder, facts: &Facts) -> Encoded {
        let named = |phase: &Phase| phase.name;
        let phases = || facts.phases.iter();
        let help = "seconds from the process' first instruction to the end of a phase of its start";
        let wall = phases().map(|phase| (named(phase), phase.wall.as_secs_f64()));
        gauges(to, "kmesh_start_wall_seconds", help, "phase", wall)?;
        let help = "CPU seconds that a phase of the start took";
        let cpu = phases().map(|phase| (named(phase), phase.cpu.as_secs_f64()));
        gauges(to, "kmesh_start_cpu_seconds", help, "phase", cpu)?;
        gauge(to, "process_resident_memory_bytes", "resident memory", self.resident)?;
        let help = "anonymous resident memory: what only this process holds";
        gauge(to, "kmesh_anonymous_memory_bytes", help, self.anonymous)
    }
}
