//! The functions of OpenSSL 3.0 that neither `openssl` nor `openssl-sys` binds, each behind a safe wrapper.
//!
//! `unsafe` is allowed here and in `memory.rs`, nowhere else. Each wrapper names the manual page it relies on.
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, CString, c_char, c_int, c_uchar, c_uint, c_void},
    ptr,
};

use foreign_types_shared::{ForeignType, ForeignTypeRef};
use openssl::{
    asn1::Asn1Time,
    error::ErrorStack,
    md::MdRef,
    ssl::{SslCipher, SslContextBuilder, SslContextRef, SslRef},
    stack::{Stack, StackRef},
    x509::{X509CrlRef, X509Ref, X509VerifyResult, store::X509StoreBuilderRef},
};
use openssl_sys as sys;

type TicketDecrypted = unsafe extern "C" fn(
    *mut sys::SSL,
    *mut sys::SSL_SESSION,
    *const c_uchar,
    usize,
    c_int,
    *mut c_void,
) -> c_int;

/// `OSSL_PARAM(3)`.
#[repr(C)]
struct Param {
    key: *const c_char,
    data_type: c_uint,
    data: *mut c_void,
    data_size: usize,
    return_size: usize,
}

unsafe extern "C" {
    fn SSL_CTX_get_ciphers(ctx: *const sys::SSL_CTX) -> *mut sys::stack_st_SSL_CIPHER;
    fn SSL_get1_supported_ciphers(ssl: *mut sys::SSL) -> *mut sys::stack_st_SSL_CIPHER;
    fn SSL_CTX_set_session_ticket_cb(
        ctx: *mut sys::SSL_CTX,
        generate: Option<unsafe extern "C" fn(*mut sys::SSL, *mut c_void) -> c_int>,
        decrypted: Option<TicketDecrypted>,
        arg: *mut c_void,
    ) -> c_int;
    fn SSL_SESSION_get0_peer(session: *mut sys::SSL_SESSION) -> *mut sys::X509;
    fn SSL_has_pending(ssl: *const sys::SSL) -> c_int;
    fn SSL_group_to_name(ssl: *mut sys::SSL, id: c_int) -> *const c_char;
    fn SSL_get_sigalgs(
        ssl: *mut sys::SSL,
        index: c_int,
        sign: *mut c_int,
        hash: *mut c_int,
        sign_hash: *mut c_int,
        raw_sign: *mut c_uchar,
        raw_hash: *mut c_uchar,
    ) -> c_int;
    fn BIO_number_read(bio: *mut sys::BIO) -> u64;
    fn X509_STORE_add_crl(store: *mut sys::X509_STORE, crl: *mut sys::X509_CRL) -> c_int;
    fn OSSL_PROVIDER_available(ctx: *mut c_void, name: *const c_char) -> c_int;
    fn OSSL_PROVIDER_get0_name(provider: *const sys::OSSL_PROVIDER) -> *const c_char;
    fn OSSL_PROVIDER_get_params(provider: *const sys::OSSL_PROVIDER, params: *mut Param) -> c_int;
    fn EVP_MD_get0_provider(md: *const sys::EVP_MD) -> *const sys::OSSL_PROVIDER;
    fn UI_null() -> *const c_void;
    fn UI_set_default_method(method: *const c_void);
}

/// A cipher suite as OpenSSL describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Suite {
    /// OpenSSL's name: `ECDHE-RSA-AES128-GCM-SHA256`.
    pub(super) openssl: &'static str,
    /// The name in IANA's registry, or OpenSSL's own where it has none.
    pub(super) iana: &'static str,
    /// The number in a hello.
    pub(super) id: u16,
    /// Strength of the cipher in bits.
    pub(super) bits: i32,
    /// The lowest version that has it: `TLSv1.3`, `TLSv1.2`, `TLSv1.0` or `SSLv3`.
    pub(super) since: &'static str,
    /// `SSL_CIPHER_description(3)`: key exchange, authentication, encryption, digest.
    description: String,
}

impl Suite {
    fn new(cipher: &openssl::ssl::SslCipherRef) -> Self {
        Self {
            openssl: cipher.name(),
            iana: cipher.standard_name().unwrap_or(cipher.name()),
            id: u16::from_be_bytes(cipher.protocol_id()),
            bits: cipher.bits().secret,
            since: cipher.version(),
            description: cipher.description(),
        }
    }

    /// Whether it belongs to TLS 1.3, where the certificate's algorithm is not part of the suite.
    pub(super) fn is_tls13(&self) -> bool {
        self.since == "TLSv1.3"
    }

    /// Whether it lacks authentication or encryption.
    pub(super) fn is_hollow(&self) -> bool {
        self.has("Au=None") || self.has("Enc=None")
    }

    /// Whether a field of the description is exactly `field`, for example `Au=ECDSA`.
    pub(super) fn has(&self, field: &str) -> bool {
        self.description.split_ascii_whitespace().any(|word| word == field)
    }
}

/// The suites configured in a context, in order, TLS 1.3's first (`SSL_CTX_get_ciphers(3)`). Some may be unusable.
pub(super) fn configured_ciphers(context: &SslContextRef) -> Vec<Suite> {
    // SAFETY: the stack belongs to the context and outlives this call; it may be null.
    unsafe {
        let stack = SSL_CTX_get_ciphers(context.as_ptr());
        if stack.is_null() {
            return Vec::new();
        }
        StackRef::<SslCipher>::from_ptr(stack).iter().map(Suite::new).collect()
    }
}

/// The suites that a connection may negotiate under its versions, security level and providers
/// (`SSL_get1_supported_ciphers(3)`).
pub(super) fn supported_ciphers(ssl: &SslRef) -> Vec<Suite> {
    // SAFETY: the returned stack is ours to free; its elements are static.
    unsafe {
        let stack = SSL_get1_supported_ciphers(ssl.as_ptr());
        if stack.is_null() {
            return Vec::new();
        }
        Stack::<SslCipher>::from_ptr(stack).iter().map(Suite::new).collect()
    }
}

/// Makes OpenSSL ignore session tickets whose client certificate has expired since, and send a new ticket
/// after a full handshake (`SSL_CTX_set_session_ticket_cb(3)`).
pub(super) fn ignore_tickets_of_expired_peers(context: &mut SslContextBuilder) -> Result<(), ErrorStack> {
    // SAFETY: both callbacks are static and take no argument of ours.
    let set = unsafe {
        SSL_CTX_set_session_ticket_cb(
            context.as_ptr(),
            Some(ticket_made),
            Some(ticket_decrypted),
            ptr::null_mut(),
        )
    };
    succeeded(set)
}

unsafe extern "C" fn ticket_made(_: *mut sys::SSL, _: *mut c_void) -> c_int {
    1
}

unsafe extern "C" fn ticket_decrypted(
    _: *mut sys::SSL,
    session: *mut sys::SSL_SESSION,
    _: *const c_uchar,
    _: usize,
    status: c_int,
    _: *mut c_void,
) -> c_int {
    const STATUS_SUCCESS: c_int = 5;
    const STATUS_SUCCESS_RENEW: c_int = 6;
    const IGNORE_RENEW: c_int = 2;
    const USE: c_int = 3;
    const USE_RENEW: c_int = 4;
    // SAFETY: on success OpenSSL passes a session that lives through this call, and so does its certificate.
    unsafe {
        match status {
            STATUS_SUCCESS | STATUS_SUCCESS_RENEW if peer_has_expired(session) => IGNORE_RENEW,
            STATUS_SUCCESS => USE,
            STATUS_SUCCESS_RENEW => USE_RENEW,
            _ => IGNORE_RENEW,
        }
    }
}

unsafe fn peer_has_expired(session: *mut sys::SSL_SESSION) -> bool {
    // SAFETY: the caller's session is alive; the certificate belongs to it and may be null.
    let peer = unsafe {
        let peer = SSL_SESSION_get0_peer(session);
        if peer.is_null() {
            return false;
        }
        X509Ref::from_ptr(peer)
    };
    // A clock or date that can't be read counts as expired: the full handshake will judge it.
    Asn1Time::days_from_now(0).map_or(true, |now| peer.not_after() < now)
}

/// The group of the key exchange by OpenSSL's name; `None` when there was none, as with RSA key exchange
/// (`SSL_get_negotiated_group(3)`, `SSL_group_to_name(3)`).
pub(super) fn negotiated_group(ssl: &SslRef) -> Option<String> {
    const GET_NEGOTIATED_GROUP: c_int = 134;
    // SAFETY: the name, when there is one, is a C string that lives as long as the context.
    unsafe {
        let id = sys::SSL_ctrl(ssl.as_ptr(), GET_NEGOTIATED_GROUP, 0, ptr::null_mut());
        let id = c_int::try_from(id).ok().filter(|&id| id != 0)?;
        text(SSL_group_to_name(ssl.as_ptr(), id))
    }
}

/// Whether the peer asked for a certificate: only then has a client seen the peer's signature algorithms
/// (`SSL_get_sigalgs(3)`).
pub(super) fn certificate_was_asked(ssl: &SslRef) -> bool {
    let none = ptr::null_mut;
    // SAFETY: null is allowed for each output.
    unsafe { SSL_get_sigalgs(ssl.as_ptr(), -1, none(), none(), none(), ptr::null_mut(), ptr::null_mut()) > 0 }
}

/// Whether reading has something to say though nothing more came from the peer: bytes that wait within OpenSSL, whole
/// records or not, or the end (`SSL_has_pending(3)`, `SSL_get_shutdown(3)`).
pub(super) fn has_more(ssl: &SslRef) -> bool {
    // SAFETY: both only look at the connection.
    unsafe {
        SSL_has_pending(ssl.as_ptr()) == 1
            || sys::SSL_get_shutdown(ssl.as_ptr()) & sys::SSL_RECEIVED_SHUTDOWN != 0
    }
}

/// How many bytes came from the peer (`BIO_number_read(3)`).
pub(super) fn bytes_read(ssl: &SslRef) -> u64 {
    // SAFETY: the BIO belongs to the connection; null is checked.
    unsafe {
        let bio = sys::SSL_get_rbio(ssl.as_ptr());
        if bio.is_null() { 0 } else { BIO_number_read(bio) }
    }
}

/// The body of an extension of the hello being looked at. Only inside a client-hello callback
/// (`SSL_client_hello_get0_ext(3)`); elsewhere `None`.
pub(super) fn client_hello_extension(ssl: &SslRef, kind: u32) -> Option<&[u8]> {
    let (mut data, mut len) = (ptr::null(), 0);
    // SAFETY: on success OpenSSL points into the hello, which lives through the callback that holds `ssl`.
    unsafe {
        let found = sys::SSL_client_hello_get0_ext(ssl.as_ptr(), kind, &raw mut data, &raw mut len);
        (found == 1 && !data.is_null()).then(|| std::slice::from_raw_parts(data, len))
    }
}

/// Adds a certificate to the chain of the identity set last (`SSL_CTX_add1_chain_cert(3)`).
pub(super) fn add_chain_certificate(
    context: &mut SslContextBuilder,
    certificate: &X509Ref,
) -> Result<(), ErrorStack> {
    const CHAIN_CERT: c_int = 89;
    // SAFETY: with `larg` 1 OpenSSL takes a reference of its own.
    let added =
        unsafe { sys::SSL_CTX_ctrl(context.as_ptr(), CHAIN_CERT, 1, certificate.as_ptr().cast::<c_void>()) };
    succeeded(c_int::from(added > 0))
}

/// Finite-field Diffie-Hellman parameters that fit the key's strength (`SSL_CTX_set_dh_auto(3)`).
pub(super) fn set_dh_auto(context: &mut SslContextBuilder) -> Result<(), ErrorStack> {
    // SAFETY: a plain switch on a live context.
    let set = unsafe { sys::SSL_CTX_set_dh_auto(context.as_ptr(), 1) };
    succeeded(c_int::from(set > 0))
}

/// Adds a revocation list to a store (`X509_STORE_add_crl(3)`).
pub(super) fn add_crl(store: &mut X509StoreBuilderRef, crl: &X509CrlRef) -> Result<(), ErrorStack> {
    // SAFETY: the store takes a reference of its own.
    succeeded(unsafe { X509_STORE_add_crl(store.as_ptr(), crl.as_ptr()) })
}

/// `X509_V_ERR_CERT_REJECTED`, which OpenSSL reports to the peer as `bad_certificate`.
pub(super) fn certificate_rejected() -> X509VerifyResult {
    // SAFETY: 28 is one of OpenSSL's codes.
    unsafe { X509VerifyResult::from_raw(28) }
}

/// Never ask on the terminal for a password, wherever OpenSSL might (`UI_null(3)`).
pub(super) fn forbid_prompts() {
    // SAFETY: the method is static.
    unsafe { UI_set_default_method(UI_null()) }
}

/// Whether a provider is loaded and works (`OSSL_PROVIDER_available(3)`).
pub(super) fn provider_available(name: &str) -> bool {
    let Ok(name) = CString::new(name) else { return false };
    // SAFETY: null is the default library context.
    unsafe { OSSL_PROVIDER_available(ptr::null_mut(), name.as_ptr()) == 1 }
}

/// Whether the default properties demand `fips=yes` (`EVP_default_properties_is_fips_enabled(3)`).
pub(super) fn fips_is_default() -> bool {
    // SAFETY: null is the default library context.
    unsafe { sys::EVP_default_properties_is_fips_enabled(ptr::null_mut()) == 1 }
}

/// Demands `fips=yes` of every algorithm fetched from now on (`EVP_default_properties_enable_fips(3)`).
pub(super) fn demand_fips() -> Result<(), ErrorStack> {
    // SAFETY: null is the default library context.
    succeeded(unsafe { sys::EVP_default_properties_enable_fips(ptr::null_mut(), 1) })
}

/// The name, long name and version of the provider that implements a digest
/// (`EVP_MD_get0_provider(3)`, `OSSL_PROVIDER_get_params(3)`).
pub(super) fn provider_of(md: &MdRef) -> Option<(String, Option<String>, Option<String>)> {
    // SAFETY: the provider lives as long as the digest that came from it.
    unsafe {
        let provider = EVP_MD_get0_provider(md.as_ptr());
        if provider.is_null() {
            return None;
        }
        let name = text(OSSL_PROVIDER_get0_name(provider))?;
        Some((name, provider_text(provider, c"name"), provider_text(provider, c"version")))
    }
}

unsafe fn provider_text(provider: *const sys::OSSL_PROVIDER, key: &CStr) -> Option<String> {
    const UTF8_PTR: c_uint = 6;
    let mut value: *const c_char = ptr::null();
    let entry = |key, data: *mut c_void| Param {
        key,
        data_type: if data.is_null() { 0 } else { UTF8_PTR },
        data,
        data_size: 0,
        return_size: usize::MAX,
    };
    let mut params =
        [entry(key.as_ptr(), (&raw mut value).cast::<c_void>()), entry(ptr::null(), ptr::null_mut())];
    // SAFETY: the list ends with a null key; the provider writes one pointer to text of its own.
    unsafe {
        (OSSL_PROVIDER_get_params(provider, params.as_mut_ptr()) == 1).then_some(())?;
        text(value)
    }
}

unsafe fn text(value: *const c_char) -> Option<String> {
    // SAFETY: the callers pass null or a C string of OpenSSL's.
    (!value.is_null()).then(|| unsafe { CStr::from_ptr(value) }.to_string_lossy().into_owned())
}

fn succeeded(result: c_int) -> Result<(), ErrorStack> {
    if result == 1 { Ok(()) } else { Err(ErrorStack::get()) }
}
