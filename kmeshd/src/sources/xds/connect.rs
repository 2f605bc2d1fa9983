//! From an address to a client: certificates and token are read anew each time, so that rotated
//! ones are taken.

use std::fs;

use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

use super::cut::Cutter;
use super::options::Options;
use super::proto::Node;
use super::proto::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient as Client;
use super::token::Bearer;
use super::trouble::Trouble;

/// A client that is connected, and what it must say with its call.
pub(super) struct Connected {
    pub(super) client: Client<Cutter>,
    pub(super) metadata: MetadataMap,
    pub(super) node: Node,
}

/// Flow control: a first answer has many megabytes.
const WINDOW: u32 = 4 << 20;

/// What a certificate begins with.
const PEM: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// Whether connections to this address are encrypted.
pub(super) fn is_tls(address: &str) -> bool {
    address.starts_with("https://")
}

/// Connects to `address`.
pub(super) async fn connect(options: &Options, address: &str) -> Result<Connected, Trouble> {
    let mut metadata = MetadataMap::new();
    let mut bearer = Bearer::default();
    if is_tls(address) {
        let (token, said) = token(options)?;
        metadata.insert("authorization", token);
        bearer = said;
        if let Ok(cluster) = options.cluster.parse() {
            metadata.insert("clusterid", cluster);
        }
    }
    let endpoint = endpoint(options, address)?;
    let limit = options.limits.connect;
    let channel = match tokio::time::timeout(limit, endpoint.connect()).await {
        Ok(Ok(channel)) => channel,
        Ok(Err(error)) => {
            let security = &options.security;
            return Err(Trouble::connect(address, &security.root, &security.name, error));
        }
        Err(_) => return Err(Trouble::Slow { address: address.to_owned(), after: limit }),
    };
    let client = Client::new(Cutter(channel)).max_decoding_message_size(options.limits.response);
    Ok(Connected { client, metadata, node: node(options, bearer) })
}

fn token(options: &Options) -> Result<(AsciiMetadataValue, Bearer), Trouble> {
    let path = &options.security.token;
    let bytes = fs::read(path).map_err(|source| Trouble::Token { path: path.clone(), source })?;
    let bad = || Trouble::TokenText { path: path.clone() };
    let text = String::from_utf8(bytes).map_err(|_| bad())?;
    let text = text.trim();
    let mut value: AsciiMetadataValue = format!("Bearer {text}").parse().map_err(|_| bad())?;
    value.set_sensitive(true);
    if text.is_empty() { Err(bad()) } else { Ok((value, Bearer::of(text))) }
}

fn endpoint(options: &Options, address: &str) -> Result<Endpoint, Trouble> {
    let (interval, patience) = options.limits.keepalive;
    let failed = |source| Trouble::Tls {
        address: address.to_owned(),
        root: options.security.root.clone(),
        hint: "is the root certificate whole (ConfigMap istio-ca-root-cert)?",
        source,
    };
    let endpoint = Endpoint::from_shared(address.to_owned())
        .map_err(failed)?
        .connect_timeout(options.limits.connect)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(interval)
        .keep_alive_timeout(patience)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW);
    if !is_tls(address) {
        return Ok(endpoint);
    }
    let path = &options.security.root;
    let pem = fs::read(path).map_err(|source| Trouble::Root { path: path.clone(), source })?;
    if !pem.windows(PEM.len()).any(|text| text == PEM) {
        return Err(Trouble::RootText { path: path.clone() });
    }
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(pem))
        .domain_name(&options.security.name);
    endpoint.tls_config(tls).map_err(failed)
}

/// Who asks, in the words that istiod expects of a node agent.
fn node(options: &Options, bearer: Bearer) -> Node {
    let or = |told: &Option<String>, said: Option<String>, default: String| {
        told.clone().or(said).unwrap_or(default)
    };
    let pod = or(&options.pod, bearer.pod, format!("kmesh-{}", options.node));
    let namespace = or(&options.namespace, bearer.namespace, "kmesh-system".to_owned());
    let account = or(&options.account, bearer.account, "kmesh".to_owned());
    let ip = &options.ip;
    let text = |text: &str| prost_types::Value::from(text);
    let fields = [
        ("CLUSTER_ID", text(&options.cluster)),
        ("INSTANCE_IPS", text(ip)),
        ("NAME", text(&pod)),
        ("NAMESPACE", text(&namespace)),
        ("NETWORK", text(&options.network)),
        ("NODE_NAME", text(&options.node)),
        ("SERVICE_ACCOUNT", text(&account)),
    ];
    let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Node {
        id: format!("ztunnel~{ip}~{pod}.{namespace}~{namespace}.svc.cluster.local"),
        metadata: Some(prost_types::Struct { fields }),
    }
}
