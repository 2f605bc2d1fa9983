//! The options that limit the maps, one for each.

use kmesh_bpf::layout::Limits;

macro_rules! limits {
    ($($field:ident, $limit:ident, $env:literal, $help:literal;)*) => {
        #[derive(Debug, clap::Args)]
        #[command(next_help_heading = "Limits (of maps that are made anew)")]
        pub(super) struct LimitArgs {
            $(
                #[doc = $help]
                #[arg(long, env = $env, value_name = "N", global = true)]
                #[arg(default_value_t = Limits::default().$limit)]
                #[arg(value_parser = clap::value_parser!(u32).range(1..=16_000_000))]
                $field: u32,
            )*
        }

        impl LimitArgs {
            /// The limits that were asked for.
            pub(super) fn resolve(&self) -> Limits {
                Limits { $($limit: self.$field,)* }
            }
        }
    };
}

limits! {
    max_frontends, frontends, "KMESH_MAX_FRONTENDS", "Addresses: VIPs times ports, and workloads' own";
    max_services, services, "KMESH_MAX_SERVICES", "Services times ports times families";
    max_endpoints, endpoints, "KMESH_MAX_ENDPOINTS", "Endpoints of all services, with slack";
    max_workloads, workloads, "KMESH_MAX_WORKLOADS", "Workloads";
    max_names, names, "KMESH_MAX_NAMES", "Pieces of names, of 64 bytes each";
    max_pods, pods, "KMESH_MAX_PODS", "Managed pods of this node";
    max_sockets, sockets, "KMESH_MAX_SOCKETS", "Waypoint connections that have not sent yet";
    max_policies, policies, "KMESH_MAX_POLICIES", "Authorization policies";
    max_policy_sets, policy_sets, "KMESH_MAX_POLICY_SETS", "Distinct lists of policies that apply to pods of this node";
    max_policy_words, policy_words, "KMESH_MAX_POLICY_WORDS", "Ranges, rows and identities of all policy sets, 8 bytes each";
    max_policy_chunks, policy_chunks, "KMESH_MAX_POLICY_CHUNKS", "Bits of all policy sets, 64 bytes each";
    max_connections, connections, "KMESH_MAX_CONNECTIONS", "Live inbound connections of pods with policies";
}
