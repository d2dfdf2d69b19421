//! What is done for each request. What takes long tells its caller how far it
//! is and ends when the caller leaves.

use vswap_platform::sync::Event;
use vswap_store::device::DeviceInfo;

use super::answer::Json;
use super::conversation::Caller;
use super::request::Request;
use crate::device_json::devices_json;
use crate::device_spec::DeviceSpec;
use crate::engine::Engine;

/// The protocol's version: changes when a request or an answer does.
const PROTOCOL: u32 = 1;
/// Broken laws told at most; the count tells the rest.
const BROKEN_MOST: usize = 100;
/// Bytes drained between two looks at the caller.
const DRAIN_PORTION: u64 = 8 << 20;
/// Between two looks at whose turn it is.
const TURN_NS: u64 = 5_000_000;

/// Does what is asked.
///
/// # Errors
/// A sentence for the client; nothing was changed then.
pub fn obey(engine: &Engine, request: Request, caller: &mut Caller<'_>) -> Result<Json, String> {
    match request {
        Request::Hello => Ok(hello(engine)),
        Request::Ram(bytes) => ram(engine, bytes),
        Request::Check => check(engine, caller),
        Request::Devices => Ok(devices(&engine.devices())),
        Request::SwapOn(spec) => swapon(engine, &spec),
        Request::SwapOff(path) => swapoff(engine, &path, caller),
        Request::Groups => Ok(Json::Object(vec![("groups", engine.told_groups())])),
        Request::Drain(path, bytes) => drain(engine, &path, bytes, caller),
        Request::Limit(path, limits) => limit(engine, &path, &limits),
        Request::Cancel => Err("nothing is under way that could be ended".into()),
    }
}

fn hello(engine: &Engine) -> Json {
    Json::Object(vec![
        ("protocol", Json::number(PROTOCOL)),
        ("version", Json::text(env!("CARGO_PKG_VERSION"))),
        ("build_id", Json::text(engine.config().build_id)),
        ("pid", Json::number(std::process::id())),
        ("space", Json::number(engine.control.number())),
    ])
}

fn ram(engine: &Engine, bytes: u64) -> Result<Json, String> {
    let before = engine.ram();
    engine.set_ram(bytes).map_err(|error| error.to_string())?;
    Ok(Json::Object(vec![
        ("before_bytes", Json::number(before)),
        ("ram_bytes", Json::number(bytes)),
    ]))
}

/// All limits that are named, or none.
fn limit(engine: &Engine, path: &str, limits: &str) -> Result<Json, String> {
    let group = engine.group_of_path(path);
    let changed = group.and_then(|group| engine.set_group(group, limits));
    changed.map_err(|error| error.to_string())?;
    Ok(Json::Object(Vec::new()))
}

/// In portions, so that a caller who leaves ends it. What was moved stays moved.
fn drain(engine: &Engine, path: &str, bytes: u64, caller: &mut Caller<'_>) -> Result<Json, String> {
    let group = engine.group_of_path(path);
    let group = group.map_err(|error| error.to_string())?;
    let mut moved = 0;
    while moved < bytes && caller.go_on(moved, bytes) {
        let portion = (bytes - moved).min(DRAIN_PORTION);
        match engine.drain_group(group, portion) {
            Ok(0) => break,
            Ok(more) => moved += more,
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(Json::Object(vec![("moved_bytes", Json::number(moved))]))
}

/// The program stands still meanwhile, so not for somebody who has left, and not all the time.
fn check(engine: &Engine, caller: &mut Caller<'_>) -> Result<Json, String> {
    let turn = loop {
        if !caller.go_on(0, engine.own_bytes()) {
            return Err("nobody waits for the answer".into());
        }
        match engine.control.checks.take() {
            Some(turn) => break turn,
            None => Event::new().wait(TURN_NS),
        };
    };
    let broken = engine.check();
    drop(turn);
    let told = broken.iter().take(BROKEN_MOST).map(Json::text);
    Ok(Json::Object(vec![
        ("broken_count", Json::number(broken.len() as u64)),
        ("broken", Json::List(told.collect())),
    ]))
}

fn devices(devices: &[DeviceInfo]) -> Json {
    let list = Json::Raw(devices_json(devices));
    Json::Object(vec![("devices", list)])
}

fn swapon(engine: &Engine, spec: &DeviceSpec) -> Result<Json, String> {
    let device = engine.swapon(spec).map_err(|error| error.to_string())?;
    Ok(devices(&[device]))
}

/// Bit by bit, for as long as the caller stays.
fn swapoff(engine: &Engine, path: &str, caller: &mut Caller<'_>) -> Result<Json, String> {
    let moved = engine
        .swapoff(path, &mut |at| {
            caller.go_on(at.done_bytes(), at.total_bytes())
        })
        .map_err(|error| error.to_string())?;
    let moved = Json::number(moved.done_bytes());
    Ok(Json::Object(vec![("moved_bytes", moved)]))
}
