//! The options of the control plane, and what they come to.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::{ConfigError, PodArgs};
use crate::desired::Here;
use crate::sources::xds::{Limits, Options, Security};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "The control plane")]
pub(super) struct XdsArgs {
    /// Istio's control plane: https://HOST:PORT (15012), or http:// for plain text (15010);
    /// several are tried in turn
    #[arg(long, env = "KMESH_XDS", value_name = "URL,…", value_delimiter = ',', global = true)]
    xds: Vec<String>,
    /// Its root certificates, PEM; read at every connection
    #[arg(long, env = "KMESH_XDS_ROOT_CERT", value_name = "FILE", global = true)]
    #[arg(default_value = "/var/run/secrets/istio/root-cert.pem")]
    xds_root_cert: PathBuf,
    /// The service account's token of audience istio-ca; read at every connection
    #[arg(long, env = "KMESH_XDS_TOKEN", value_name = "FILE", global = true)]
    #[arg(default_value = "/var/run/secrets/tokens/istio-token")]
    xds_token: PathBuf,
    /// The name in its certificate
    #[arg(long, env = "KMESH_XDS_SERVER_NAME", value_name = "NAME", global = true)]
    #[arg(default_value = "istiod.istio-system.svc")]
    xds_server_name: String,
    /// The largest response that is taken, in MiB
    #[arg(long, env = "KMESH_XDS_MAX_RESPONSE", value_name = "MIB", default_value = "256")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=4095), global = true)]
    xds_max_response: u32,
    /// Believe an answer that is empty, or names less than half of what there was, at once
    #[arg(long, env = "KMESH_ACCEPT_EMPTY", global = true)]
    accept_empty: bool,
    /// How long such an answer is held back before it is asked for again, in seconds
    #[arg(long, env = "KMESH_EMPTY_GRACE", value_name = "SECONDS", default_value = "60")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..), global = true)]
    empty_grace: u32,
    /// This pod's name [default: POD_NAME, else the token's]
    #[arg(long, env = "KMESH_POD_NAME", value_name = "NAME", global = true)]
    pod_name: Option<String>,
    /// This pod's namespace [default: POD_NAMESPACE, else the token's]
    #[arg(long, env = "KMESH_POD_NAMESPACE", value_name = "NAME", global = true)]
    pod_namespace: Option<String>,
    /// This pod's service account [default: SERVICE_ACCOUNT, else the token's]
    #[arg(long, env = "KMESH_SERVICE_ACCOUNT", value_name = "NAME", global = true)]
    service_account: Option<String>,
    /// This pod's address [default: INSTANCE_IP, else 127.0.0.1]
    #[arg(long, env = "KMESH_POD_IP", value_name = "IP", global = true)]
    pod_ip: Option<IpAddr>,
    /// Name servers that resolve workloads' hostnames [default: those of /etc/resolv.conf]
    #[arg(long, env = "KMESH_DNS_SERVER", value_name = "IP:PORT,…", value_delimiter = ',')]
    #[arg(global = true)]
    pub(super) dns_server: Vec<SocketAddr>,
}

impl XdsArgs {
    /// How the control plane is reached; `None` if none is named.
    pub(super) fn resolve(
        &self,
        here: &Here,
        pod: &PodArgs,
    ) -> Result<Option<Options>, ConfigError> {
        for url in &self.xds {
            let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
            let host = rest.is_some_and(|rest| !rest.is_empty() && !rest.contains('/'));
            let parsed = url.parse::<hyper::Uri>().ok();
            if !host || parsed.and_then(|url| url.port_u16()).is_none() {
                return Err(ConfigError::Xds { url: url.clone() });
            }
        }
        let or = |told: &Option<String>, named: &Option<String>| told.clone().or(named.clone());
        let options = Options {
            addresses: self.xds.clone(),
            security: Security {
                root: self.xds_root_cert.clone(),
                token: self.xds_token.clone(),
                name: self.xds_server_name.clone(),
            },
            limits: Limits {
                response: (self.xds_max_response as usize) << 20,
                ..Limits::default()
            },
            accept_empty: self.accept_empty,
            grace: Duration::from_secs(self.empty_grace.into()),
            node: here.node.clone(),
            cluster: here.cluster.clone(),
            network: here.network.clone(),
            pod: or(&self.pod_name, &pod.env_pod_name),
            namespace: or(&self.pod_namespace, &pod.env_pod_namespace),
            account: or(&self.service_account, &pod.env_service_account),
            ip: self
                .pod_ip
                .or(pod.env_instance_ip)
                .unwrap_or(Ipv4Addr::LOCALHOST.into())
                .to_string(),
        };
        Ok((!self.xds.is_empty()).then_some(options))
    }
}
