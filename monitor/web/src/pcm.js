// Plays the samples that it is sent, from a buffer of 2 s; starts after 0.3 s and again after it ran dry.
const SIZE = 32000,
  LEAD = 4800;

class Pcm extends AudioWorkletProcessor {
  constructor() {
    super();
    this.buffer = new Float32Array(SIZE);
    this.read = this.held = 0;
    this.isPlaying = false;
    this.port.onmessage = ({ data }) => {
      for (const sample of data) {
        if (this.held === SIZE) {
          this.read = (this.read + 1) % SIZE;
          this.held--;
        }
        this.buffer[(this.read + this.held++) % SIZE] = sample;
      }
      if (this.held >= LEAD) this.isPlaying = true;
    };
  }

  process(_, [[out]]) {
    for (let i = 0; i < out.length; i++) {
      if (this.held === 0) this.isPlaying = false;
      if (!this.isPlaying) {
        out[i] = 0;
        continue;
      }
      out[i] = this.buffer[this.read];
      this.read = (this.read + 1) % SIZE;
      this.held--;
    }
    return true;
  }
}
registerProcessor("pcm", Pcm);
