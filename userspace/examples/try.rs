use std::process::Command;
fn main() -> anyhow::Result<()> {
    let t = std::time::Instant::now();
    let p = unpriv::probe::Probe::attach(unpriv::probe::Hooks { failures: std::env::var("F").is_ok(), ..Default::default() })?;
    eprintln!("armed {:?}", t.elapsed());
    let a: Vec<String> = std::env::args().skip(1).collect();
    let mut c = p.spawn(0, || Ok(Command::new(&a[0]).args(&a[1..]).spawn()?))?;
    c.wait()?;
    let r = p.recording()?;
    println!("{}", serde_json::to_string_pretty(&r.trace)?);
    Ok(())
}
