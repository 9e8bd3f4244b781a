//! Compiles the .proto files with a pure-Rust compiler: no system protoc is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=voxray");
    println!("cargo:rerun-if-changed=pipecat");
    let files = [
        "voxray/control/v1/control.proto",
        "voxray/archive/v1/archive.proto",
        "voxray/archive/v1/query.proto",
        "pipecat/frames.proto",
    ];
    let descriptors = protox::compile(files, ["."])?;
    tonic_prost_build::configure()
        .bytes(".voxray.archive.v1.AudioChunk")
        .bytes(".voxray.archive.v1.GetRecordingResponse")
        .bytes(".pipecat.AudioRawFrame")
        .compile_fds(descriptors)?;
    Ok(())
}
