//! Who a service account's token says its bearer is. The token is not checked: the control plane
//! does that. One that cannot be read says nothing.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

/// The bearer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bearer {
    pub(super) namespace: Option<String>,
    pub(super) account: Option<String>,
    pub(super) pod: Option<String>,
}

#[derive(Deserialize)]
struct Claims {
    #[serde(rename = "kubernetes.io")]
    kubernetes: Option<Kubernetes>,
}

#[derive(Deserialize)]
struct Kubernetes {
    namespace: Option<String>,
    pod: Option<Named>,
    serviceaccount: Option<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

impl Bearer {
    /// Reads the claims of a JSON web token.
    pub(super) fn of(token: &str) -> Self {
        Self::claims(token).unwrap_or_default()
    }

    fn claims(token: &str) -> Option<Self> {
        let payload = token.split('.').nth(1)?;
        let bytes = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
        let claims: Claims = serde_json::from_slice(&bytes).ok()?;
        let said = claims.kubernetes?;
        Some(Self {
            namespace: said.namespace,
            account: said.serviceaccount.map(|account| account.name),
            pod: said.pod.map(|pod| pod.name),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tokens_bearer_is_read_and_anything_else_says_nothing() {
        let claims = r#"{"aud":["istio-ca"],"kubernetes.io":{"namespace":"kmesh-system",
            "pod":{"name":"kmesh-x"},"serviceaccount":{"name":"kmesh"}}}"#;
        let token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
        let bearer = Bearer::of(&token);
        assert_eq!(bearer.namespace.as_deref(), Some("kmesh-system"));
        assert_eq!(bearer.account.as_deref(), Some("kmesh"));
        assert_eq!(bearer.pod.as_deref(), Some("kmesh-x"));
        for token in ["", "a.b.c", "a.e30.c", "..", "a.!!.c"] {
            assert_eq!(Bearer::of(token), Bearer::default(), "{token}");
        }
    }
}
