//! A handshake that only reads a server's certificate.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};

/// The result of such a handshake.
pub struct Glance {
    /// Its certificate.
    pub certificate: CertificateDer<'static>,
    /// The reason for which the handshake failed after that, if it did.
    pub refused: Option<String>,
}

/// Shakes hands with the server at `address`, whatever its certificate. Each wait for it ends after `patience`.
///
/// # Errors
/// If it shows no certificate.
pub fn at(address: SocketAddr, patience: Duration) -> io::Result<Glance> {
    let mut tcp = TcpStream::connect_timeout(&address, patience)?;
    tcp.set_read_timeout(Some(patience))?;
    tcp.set_write_timeout(Some(patience))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let witness = Arc::new(CertificateKeeper { provider: Arc::clone(&provider), shown: Mutex::new(None) });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::<CertificateKeeper>::clone(&witness))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let name = ServerName::from(address.ip());
    let mut tls = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    let refused = shake(&mut tls, &mut tcp).err();
    let shown = witness.shown.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (shown, refused) {
        (Some(certificate), refused) => Ok(Glance { certificate, refused: refused.map(|error| error.to_string()) }),
        (None, Some(error)) => Err(error),
        (None, None) => Err(io::Error::other("a handshake without a certificate")),
    }
}

fn shake(tls: &mut ClientConnection, tcp: &mut TcpStream) -> io::Result<()> {
    while tls.is_handshaking() {
        tls.complete_io(tcp)?;
    }
    // In TLS 1.3 the client's last flight has still to be sent.
    while tls.wants_write() {
        tls.write_tls(tcp)?;
    }
    tls.send_close_notify();
    tls.write_tls(tcp).map(drop)
}

/// A verifier that accepts any certificate and keeps it; it does check the handshake's signature.
#[derive(Debug)]
struct CertificateKeeper {
    provider: Arc<CryptoProvider>,
    shown: Mutex<Option<CertificateDer<'static>>>,
}

impl ServerCertVerifier for CertificateKeeper {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(end_entity.clone().into_owned());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
