//! `/api/v1/openapi.json`: what this daemon tells and takes over HTTP, as it is written beside this file. A test holds the
//! routes and their answers to it.

use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse};

use super::answers::tagged;

pub(super) const DOCUMENT: &str = include_str!("openapi.json");

pub(super) async fn openapi(request: HttpRequest) -> HttpResponse {
    tagged(&request, Bytes::from_static(DOCUMENT.as_bytes()))
}
