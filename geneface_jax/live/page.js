// The page of live sessions, and (loaded a second time, as an audio worklet) its microphone. The protocol is in docs/live.md.
"use strict";

if (typeof AudioWorkletProcessor !== "undefined") {
  // In the audio thread: the microphone's samples as 16-bit integers, 20 ms a message.
  registerProcessor("microphone", class extends AudioWorkletProcessor {
    constructor() {
      super();
      this.samples = new Int16Array(Math.round(sampleRate / 50));
      this.count = 0;
    }
    process(inputs) {
      for (const value of inputs[0][0] || []) {
        this.samples[this.count++] = Math.max(-1, Math.min(1, value)) * 32767;
        if (this.count === this.samples.length) {
          this.port.postMessage(this.samples.slice().buffer);
          this.count = 0;
        }
      }
      return true;
    }
  });
} else {
  const TEXTS = {
    en: {
      title: "Speak, and {person} says it", language: "中文", start: "Start", stop: "Stop", cancel: "Interrupt",
      aloud: "play the sound (use headphones)", idle: "listening", speaking: "speaking", off: "The microphone is off.",
      loading: "Loading, up to a minute at the first time ...", ended: "The session has ended.", late: "The sound comes late.",
      secure: "Browsers give the microphone to https:// pages and to this machine's own only.",
      microphone: "The microphone can't be used: allow it for this page. ({error})",
      slower: "This machine shows {fps} pictures a second.", made: "The pictures are AI-generated.",
      figures: "{fps} pictures/s, {delay} ms behind the sound's arrival here", somebody: "the person",
    },
    zh: {
      title: "您说话，{person}同步讲出来", language: "English", start: "开始", stop: "停止", cancel: "打断",
      aloud: "播放声音（请戴耳机）", idle: "正在聆听", speaking: "正在说话", off: "麦克风未开启。",
      loading: "正在加载，首次最多需要一分钟……", ended: "会话已结束。", late: "声音来得晚了。",
      secure: "浏览器只允许 https:// 页面和本机页面使用麦克风。",
      microphone: "无法使用麦克风：请允许本页面使用。（{error}）",
      slower: "本机每秒显示 {fps} 幅画面。", made: "画面由人工智能生成。",
      figures: "每秒 {fps} 幅画面，比声音到达晚 {delay} 毫秒", somebody: "人物",
    },
  };
  const PICTURE = 1, SOUND = 2, HEADER = 16;
  const FIRST_DELAY = 0.2, MOST_DELAY = 0.8, SHOWN = 1.0, LATE_SHOWN = 5.0;

  const query = new URLSearchParams(location.search);
  const find = (id) => document.getElementById(id);
  let language = query.get("lang") || (navigator.language.startsWith("zh") ? "zh" : "en");
  let session = null, status = ["off", {}], person = query.get("person");

  const text = (key, values = {}) => TEXTS[language][key].replace(/{(\w+)}/g, (_, name) => values[name]);
  const say = (key, values = {}) => { status = [key, values]; find("state").textContent = text(key, values); };
  let hiding = 0;
  const complain = (sentence, seconds = 0) => {
    find("note").textContent = sentence;
    clearTimeout(hiding);
    if (seconds) hiding = setTimeout(complain, 1000 * seconds, "");
  };

  function label() {
    document.documentElement.lang = language;
    find("title").textContent = text("title", { person: person || text("somebody") });
    find("language").textContent = text("language");
    find("start").textContent = text(session ? "stop" : "start");
    find("cancel").textContent = text("cancel");
    find("aloud-text").textContent = text("aloud");
    find("made").textContent = text("made");
    say(...status);
  }

  class Session {
    constructor(microphone, input, output) {
      Object.assign(this, { microphone, input, output });
      this.begin = null;         // when frame 0 is heard, on the output's clock
      this.delay = FIRST_DELAY;  // between a sound's arrival here and its being heard
      this.behind = 0;           // seconds by which pictures come after their sound was due
      this.pictures = [];
      this.sounds = new Set();
      this.shown = [];
      this.ready = false;
      const address = new URL("api/live", document.baseURI);
      address.protocol = address.protocol.replace("http", "ws");
      if (person) address.searchParams.set("person", person);
      this.socket = new WebSocket(address);
      this.socket.binaryType = "arraybuffer";
      this.socket.onopen = () => this.socket.send(JSON.stringify({ rate: input.sampleRate, format: "s16le", ...sizes() }));
      this.socket.onmessage = (message) => (typeof message.data === "string" ? this.told(JSON.parse(message.data)) : this.got(message.data));
      this.socket.onclose = () => stop(this);
      say("loading");
      this.drawing = requestAnimationFrame(() => this.draw());
    }

    send(samples) {
      if (this.ready && this.socket.readyState === WebSocket.OPEN) this.socket.send(samples);
    }

    told(message) {
      if (message.error) complain(message.error);
      if (message.type === "ready") {
        this.ready = true;
        person = message.person;
        find("picture").width = find("picture").height = message.size;
        find("cancel").disabled = false;
        label();
        say("idle");
      }
      if (message.type === "ready" || message.type === "fps") complain(message.fps < 25 ? text("slower", { fps: message.fps }) : "");
      if (message.type === "late") complain(text("late"), LATE_SHOWN);
      if (message.type === "cancelled") this.quiet();
    }

    got(data) {
      const view = new DataView(data);
      const kind = view.getUint8(0), speaking = view.getUint8(1), time = view.getFloat64(8, true) / 1000;
      if (kind === SOUND) this.sound(new Int16Array(data, HEADER), time, speaking);
      if (kind === PICTURE) this.picture(new Uint8Array(data, HEADER), time, speaking);
    }

    sound(samples, time, speaking) {
      const now = this.output.currentTime;
      if (this.begin === null) this.begin = now + this.delay - time;
      // Late sound, and pictures that come too late for theirs, move all that follows; in a pause, where it isn't heard, also for pictures.
      const missing = now - (this.begin + time);
      if (missing > 0) this.begin += missing + 0.02;
      else if (!speaking && this.behind > 0.02 && this.delay < MOST_DELAY) { this.begin += this.behind; this.delay += this.behind; this.behind = 0; }
      if (!find("aloud").checked) return;
      const buffer = this.output.createBuffer(1, samples.length, 16000), channel = buffer.getChannelData(0);
      for (let i = 0; i < samples.length; i++) channel[i] = samples[i] / 32768;
      const source = this.output.createBufferSource();
      source.buffer = buffer;
      source.connect(this.output.destination);
      source.onended = () => this.sounds.delete(source);
      this.sounds.add(source);
      source.start(this.begin + time);
    }

    quiet() {
      for (const source of this.sounds) source.stop();
      this.sounds.clear();
    }

    async picture(bytes, time, speaking) {
      const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/jpeg" }));
      if (this.begin !== null) {
        const late = this.output.currentTime - (this.begin + time);
        this.behind = late > 0 ? Math.min(Math.max(this.behind, late), 0.2) : this.behind * 0.95;
      }
      this.pictures.push({ bitmap, time, speaking });
    }

    draw() {
      this.drawing = requestAnimationFrame(() => this.draw());
      if (this.begin === null) return;
      const heard = this.output.currentTime - (this.output.outputLatency || 0) - this.begin;
      let next = null;
      while (this.pictures.length && this.pictures[0].time <= heard) {
        if (next) next.bitmap.close();
        next = this.pictures.shift();
      }
      if (!next) return;
      find("picture").getContext("2d").drawImage(next.bitmap, 0, 0);
      next.bitmap.close();
      const key = next.speaking ? "speaking" : "idle";
      if (status[0] !== key) say(key);
      const now = performance.now() / 1000;
      this.shown = [...this.shown.filter((time) => time > now - SHOWN), now];
      find("figures").textContent = text("figures", { fps: this.shown.length, delay: Math.round(1000 * this.delay) });
    }

    end() {
      cancelAnimationFrame(this.drawing);
      this.quiet();
      this.socket.onclose = null;
      this.socket.close();
      for (const track of this.microphone.getTracks()) track.stop();
      this.input.close();
      this.output.close();
    }
  }

  const sizes = () => (query.has("size") ? { size: Number(query.get("size")) } : {});

  async function start() {
    complain("");
    if (!navigator.mediaDevices) return complain(text("secure"));
    let microphone;
    try {
      microphone = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: true, channelCount: 1 } });
    } catch (error) {
      return complain(text("microphone", { error: error.name }));
    }
    // Two clocks: the microphone's own rate, which the server resamples, and 16 kHz for what is played, so that pieces join without clicks.
    const input = new AudioContext(), output = new AudioContext({ sampleRate: 16000, latencyHint: "interactive" });
    await input.audioWorklet.addModule("live/page.js");
    const node = new AudioWorkletNode(input, "microphone", { numberOfOutputs: 0 });
    input.createMediaStreamSource(microphone).connect(node);
    session = new Session(microphone, input, output);
    node.port.onmessage = (message) => session && session.send(message.data);
    find("start").textContent = text("stop");
  }

  function stop(ended) {
    if (!session || (ended && ended !== session)) return;
    session.end();
    session = null;
    find("cancel").disabled = true;
    find("start").textContent = text("start");
    say("ended");
  }

  find("start").onclick = () => (session ? stop() : start());
  find("cancel").onclick = () => session && session.socket.send(JSON.stringify({ type: "cancel" }));
  find("language").onclick = () => { language = language === "en" ? "zh" : "en"; label(); };
  if (!TEXTS[language]) language = "en";
  label();
}
