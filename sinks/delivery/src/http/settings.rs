//! The settings of a client, and the client of reqwest that follows them.

use std::fmt;
use std::time::Duration;

use reqwest::{Client, ClientBuilder, Proxy, redirect};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::tls::{Trust, configure_tls};
use crate::error::{DeliveryError, DeliveryErrorKind};

/// The longest timeout. Longer ones overflow the clocks of some platforms.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// The way to a server: its address, its proxies, and the patience with it.
///
/// The proxies of the environment (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`) and the
/// certificate authorities of the machine, or those of `SSL_CERT_FILE`, hold without a setting.
///
/// ```
/// use std::time::Duration;
///
/// use logcore_delivery::HttpSettings;
///
/// let settings = HttpSettings::new("https://tracking.example", Duration::from_secs(30))
///     .https_proxy("http://me:secret@proxy:3128");
/// assert_eq!(settings.timeout(), Duration::from_secs(30));
/// assert!(!format!("{settings:?}").contains("secret"));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct HttpSettings {
    base_url: String,
    timeout: Duration,
    http_proxy: Option<String>,
    https_proxy: Option<String>,
    /// Certificates in PEM, in place of the authorities of the machine.
    authorities: Option<Vec<u8>>,
    verifies: bool,
}

impl HttpSettings {
    /// Creates the settings for a server at `base_url`. A request fails after `timeout` without
    /// progress, and after one day at most.
    #[must_use]
    pub fn new(base_url: impl Into<String>, timeout: Duration) -> Self {
        Self {
            base_url: base_url.into(),
            timeout: timeout.min(LONGEST_TIMEOUT),
            http_proxy: None,
            https_proxy: None,
            authorities: None,
            verifies: true,
        }
    }

    /// Sets the proxy for addresses that begin with `http:`, in place of that of the environment.
    #[must_use]
    pub fn http_proxy(self, url: impl Into<String>) -> Self {
        Self {
            http_proxy: Some(url.into()),
            ..self
        }
    }

    /// Sets the proxy for addresses that begin with `https:`, in place of that of the environment.
    #[must_use]
    pub fn https_proxy(self, url: impl Into<String>) -> Self {
        Self {
            https_proxy: Some(url.into()),
            ..self
        }
    }

    /// Trusts these certificates alone, in PEM, in place of the authorities of the machine.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use logcore_delivery::{DeliveryErrorKind, HttpClient, HttpSettings};
    ///
    /// let settings = HttpSettings::new("https://collector.example", Duration::from_secs(10)).authorities("no PEM");
    /// let error = HttpClient::start("example", &settings).unwrap_err();
    /// assert_eq!(error.kind(), DeliveryErrorKind::Unverified);
    /// ```
    #[must_use]
    pub fn authorities(self, pem: impl Into<Vec<u8>>) -> Self {
        Self {
            authorities: Some(pem.into()),
            ..self
        }
    }

    /// Accepts every certificate, so that everybody on the way can read the key and the content.
    #[must_use]
    pub fn without_verification(self) -> Self {
        Self {
            verifies: false,
            ..self
        }
    }

    /// Returns the longest time of a request without progress.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Creates the client. Without certificate authorities, only plain HTTP works.
    pub(super) fn client(&self) -> Result<Client, DeliveryError> {
        let trust = match &self.authorities {
            _ if !self.verifies => Trust::Everything,
            Some(pem) => Trust::Authorities(parse_authorities(pem)?),
            None => Trust::Machine,
        };
        let tls = match configure_tls(trust) {
            // A server without TLS needs no authorities, so that a machine without any can reach
            // it.
            Err(_) if self.base_url.starts_with("http://") => configure_tls(Trust::Authorities(RootCertStore::empty())),
            tls => tls,
        };
        let tls = tls.map_err(|error| DeliveryError::from_setup(&*error))?;
        let client = self
            .builder()
            .and_then(|builder| builder.tls_backend_preconfigured(tls).build());
        client.map_err(|error| DeliveryError::from_setup(&error))
    }

    /// Sets up the proxies, the timeouts and the redirect policy.
    fn builder(&self) -> reqwest::Result<ClientBuilder> {
        let mut builder = Client::builder()
            .user_agent(concat!("logcore/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(self.timeout)
            // A redirect would take the key to another server, and a login page drops the content.
            .redirect(redirect::Policy::none());
        if let Some(url) = &self.https_proxy {
            builder = builder.proxy(Proxy::https(url)?);
        }
        if let Some(url) = &self.http_proxy {
            builder = builder.proxy(Proxy::http(url)?);
        }
        Ok(builder)
    }
}

/// Parses certificate authorities in PEM.
fn parse_authorities(pem: &[u8]) -> Result<RootCertStore, DeliveryError> {
    let mut authorities = RootCertStore::empty();
    let added = CertificateDer::pem_slice_iter(pem).try_for_each(|certificate| authorities.add(certificate.ok()?).ok());
    match added {
        Some(()) if !authorities.is_empty() => Ok(authorities),
        _ => Err(DeliveryError::permanent(
            DeliveryErrorKind::Unverified,
            "the file of trusted authorities has no certificate in PEM",
        )),
    }
}

/// Shows no proxy, because its address may hold a password.
impl fmt::Debug for HttpSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpSettings")
            .field("base_url", &self.base_url)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::DeliveryErrorKind;

    #[test]
    fn a_proxy_without_the_form_of_a_url_is_an_error() {
        let settings = HttpSettings::new("https://tracking.example", Duration::MAX);
        for settings in [
            settings.clone().http_proxy("http://[me:secret@"),
            settings.https_proxy("http://[me:secret@"),
        ] {
            let error = settings.client().unwrap_err();
            assert_eq!(error.kind(), DeliveryErrorKind::Refused);
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
