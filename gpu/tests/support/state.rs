//! The state of a fake: numbers with names. `FAKE_STATE` sets the first ones: `devices=1,0.used=5`.

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char};
use std::sync::{Condvar, LazyLock, Mutex};

static STATE: LazyLock<Mutex<BTreeMap<String, u64>>> = LazyLock::new(|| {
    let given = std::env::var("FAKE_STATE").unwrap_or_default();
    let pairs = given.split(',').filter_map(|pair| pair.split_once('='));
    let numbers = pairs.map(|(name, value)| (name.to_owned(), value.parse().unwrap()));
    Mutex::new(numbers.collect())
});
static CHANGED: Condvar = Condvar::new();

pub fn get(name: &str) -> u64 {
    STATE.lock().unwrap().get(name).copied().unwrap_or(0)
}

pub fn set(name: &str, value: u64) {
    STATE.lock().unwrap().insert(name.to_owned(), value);
    CHANGED.notify_all();
}

pub fn called(name: &str) {
    *STATE.lock().unwrap().entry(format!("calls.{name}")).or_default() += 1;
    CHANGED.notify_all();
}

/// Waits until `name` is 0.
pub fn wait_while_set(name: &str) {
    let is_set = |state: &mut BTreeMap<String, u64>| state.get(name).copied().unwrap_or(0) != 0;
    drop(CHANGED.wait_while(STATE.lock().unwrap(), is_set).unwrap());
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fake_set(name: *const c_char, value: u64) {
    set(unsafe { CStr::from_ptr(name) }.to_str().unwrap(), value);
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fake_get(name: *const c_char) -> u64 {
    get(unsafe { CStr::from_ptr(name) }.to_str().unwrap())
}

/// Waits until `name` is at least `value`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fake_wait(name: *const c_char, value: u64) {
    let name = unsafe { CStr::from_ptr(name) }.to_str().unwrap();
    let enough = |state: &mut BTreeMap<String, u64>| state.get(name).copied().unwrap_or(0) < value;
    drop(CHANGED.wait_while(STATE.lock().unwrap(), enough).unwrap());
}
