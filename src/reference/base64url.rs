//! Base64url without padding (RFC 4648, section 5), as certctl reads and writes it.

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Go's unpadded base64url, which ignores the bits left over.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// Returns bytes as text.
pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    LENIENT.encode(bytes)
}

/// Returns the bytes of a text; `None` when it is not base64url.
pub fn decode(text: impl AsRef<[u8]>) -> Option<Vec<u8>> {
    LENIENT.decode(text).ok()
}
