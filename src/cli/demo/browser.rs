//! The page in the user's browser. One that can't be opened is told, and nothing else comes of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Opens the page on a thread of its own: a browser may be slow, or run in the terminal until it is left.
pub fn open(address: SocketAddr) {
    let url = url(address);
    std::thread::spawn(move || {
        if let Err(error) = open::that(&url) {
            let told = error.to_string();
            errln!("bief demo: no browser could be opened ({}); open {url}", crate::cli::printable::printable(&told));
        }
    });
}

/// Who listens on all addresses is asked at this machine's own.
fn url(address: SocketAddr) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    format!("http://{}/", SocketAddr::new(ip, address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_is_sent_to_an_address_that_it_can_reach() {
        for (listens, opened) in [
            ("127.0.0.1:8080", "http://127.0.0.1:8080/"),
            ("0.0.0.0:80", "http://127.0.0.1:80/"),
            ("[::]:8080", "http://[::1]:8080/"),
            ("192.0.2.7:1", "http://192.0.2.7:1/"),
        ] {
            assert_eq!(url(listens.parse().unwrap()), opened);
        }
    }
}
