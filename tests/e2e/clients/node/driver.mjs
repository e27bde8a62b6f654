// The Node SDK, put through all that it does with videos. Arguments: a mode, the server's URL, its key, the expected
// version, a folder to write to. Prints one JSON object a step.

import assert from "node:assert/strict";
import { createReadStream, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import path from "node:path";

import OpenAI, { toFile } from "openai";
import { VERSION } from "openai/version";

const [, url, key, version, folder] = process.argv.slice(2);
assert.equal(VERSION, version);

const PROMPT = "a red circle moving right on a blue background";
const QUICK = { num_inference_steps: 2, num_frames: 5, seed: 1 };
const LONG = { ...QUICK, num_inference_steps: 200 };
const KEYS = [
  "id", "object", "model", "status", "progress", "created_at", "completed_at", "expires_at", "prompt",
  "size", "seconds", "remixed_from_video_id", "error",
];

const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0 });
const stranger = new OpenAI({ baseURL: `${url}/v1`, apiKey: "another", maxRetries: 0 });
const videos = client.videos;
let native;
let finished;

const create = (said = {}) => videos.create({ prompt: PROMPT, ...QUICK, ...said });

async function done(id) {
  for (;;) {
    const { data, response } = await videos.retrieve(id).withResponse();
    if (data.status === "completed") return data;
    assert.ok(["queued", "in_progress"].includes(data.status), JSON.stringify(data));
    const pause = Number(response.headers.get("openai-poll-after-ms"));
    assert.ok(Number.isInteger(pause) && pause > 0);
    await new Promise((resolve) => setTimeout(resolve, Math.min(pause, 50)));
  }
}

async function download(id, query) {
  const answer = await videos.downloadContent(id, query);
  assert.equal(answer.status, 200);
  return { kind: answer.headers.get("content-type"), data: Buffer.from(await answer.arrayBuffer()) };
}

async function listed(query) {
  const found = [];
  for await (const video of videos.list(query)) found.push(video.id);
  return found;
}

async function refused(kind, call) {
  try {
    await call();
  } catch (error) {
    assert.ok(error instanceof kind, `${error}`);
    return error;
  }
  assert.fail("it was not refused");
}

// A picture without a library to draw one: the thumbnail of a clip.
const picture = () => readFile(path.join(folder, "first.webp"));

const steps = {
  async create() {
    const size = `${native.width}x${native.height}`;
    const video = await videos.create({
      prompt: PROMPT, model: "sora-2", seconds: "1", size, extra_params: QUICK,
    });
    assert.deepEqual([video.object, video.status, video.progress, video.size], ["video", "queued", 0, size]);
    assert.equal(video.num_frames, QUICK.num_frames);
    finished = (await done(video.id)).id;
  },

  async stills() {
    const still = await download(finished, { variant: "thumbnail" });
    assert.equal(still.kind, "image/webp");
    assert.equal(still.data.subarray(8, 12).toString(), "WEBP");
    writeFileSync(path.join(folder, "first.webp"), still.data);
    const sheet = await download(finished, { variant: "spritesheet" });
    assert.equal(sheet.kind, "image/jpeg");
    assert.deepEqual([...sheet.data.subarray(0, 2)], [0xff, 0xd8]);
  },

  async "create with a picture"() {
    const data = await picture();
    const url = `data:image/webp;base64,${data.toString("base64")}`;
    const said = [
      { input_reference: await toFile(data, "first.webp", { type: "image/webp" }) },
      { input_reference: await toFile(data, "../../x") },
      { input_reference: createReadStream(path.join(folder, "first.webp")) },
      { input_reference: new Response(data) },
      { input_reference: { image_url: url } },
      { input_reference: createReadStream(path.join(folder, "first.webp")), last_frame_reference: { image_url: url } },
    ];
    const made = [];
    for (const each of said) made.push(await create({ resize_mode: "crop", ...each }));
    const clips = [];
    for (const i of [0, 2, 4]) clips.push((await download((await done(made[i].id)).id)).data);
    assert.ok(clips[0].equals(clips[1]) && clips[0].equals(clips[2]));
    const file = await refused(OpenAI.BadRequestError, () => create({ input_reference: { file_id: "file_1" } }));
    assert.match(file.message, /file_id is not supported/);
    for (const video of made) await videos.delete(video.id);
  },

  async retrieve() {
    const video = await videos.retrieve(finished);
    for (const name of KEYS) assert.ok(name in video, name);
    assert.deepEqual([video.prompt, video.seed, video.seconds, video.error], [PROMPT, 1, "0.625", null]);
    assert.match(video._request_id, /^req_/);
  },

  async list() {
    const ids = [];
    for (let i = 0; i < 3; i++) ids.push((await create()).id);
    const newestFirst = await listed({ limit: 2 });
    assert.deepEqual(newestFirst, [...ids.toReversed(), finished]);
    assert.deepEqual(await listed({ limit: 2, order: "asc" }), newestFirst.toReversed());
    for (const id of ids) await videos.delete(id);
  },

  async download() {
    const { kind, data } = await download(finished);
    assert.equal(kind, "video/mp4");
    assert.equal(data.subarray(4, 8).toString(), "ftyp");
    writeFileSync(path.join(folder, "clip.mp4"), data);
  },

  async stream() {
    const answer = await videos.downloadContent(finished);
    const pieces = [];
    for await (const piece of answer.body) pieces.push(piece);
    assert.ok(Buffer.concat(pieces).equals(await readFile(path.join(folder, "clip.mp4"))));
  },

  async remix() {
    const video = await videos.remix(finished, { prompt: `${PROMPT} slowly` });
    assert.deepEqual([video.remixed_from_video_id, video.num_frames], [finished, QUICK.num_frames]);
    assert.equal((await done(video.id)).seed, QUICK.seed);
    await videos.delete(video.id);
  },

  async edit() {
    const said = { prompt: PROMPT, num_inference_steps: 2 };
    const byId = await videos.edit({ ...said, video: { id: finished } });
    assert.equal(byId.remixed_from_video_id, finished);
    assert.equal((await done(byId.id)).seconds, "0.625");
    const upload = await videos.edit({ ...said, video: createReadStream(path.join(folder, "clip.mp4")) });
    assert.deepEqual([upload.remixed_from_video_id, upload.num_frames], [null, QUICK.num_frames]);
    for (const video of [byId, upload]) await videos.delete(video.id);
  },

  async extend() {
    const video = await videos.extend({
      prompt: PROMPT, seconds: "1", num_inference_steps: 2, video: { id: finished },
    });
    assert.deepEqual([video.remixed_from_video_id, video.seconds], [finished, "1.625"]);
    await done(video.id);
    await videos.delete(video.id);
  },

  async cancel() {
    const video = await create(LONG);
    await client.post(`/videos/${video.id}/cancel`);
    let ended = await videos.retrieve(video.id);
    while (ended.status === "in_progress") ended = await videos.retrieve(video.id);
    assert.deepEqual([ended.status, ended.error.code], ["failed", "cancelled"]);
    await videos.delete(video.id);
  },

  async delete() {
    const deleted = await videos.delete(finished);
    assert.deepEqual([deleted.id, deleted.object, deleted.deleted], [finished, "video.deleted", true]);
    for (const call of [videos.retrieve, videos.delete, videos.downloadContent]) {
      assert.match((await refused(OpenAI.NotFoundError, () => call.call(videos, finished))).message, /not found/);
    }
    assert.deepEqual(await listed(), []);
  },

  async errors() {
    const error = await refused(OpenAI.BadRequestError, () => create({ num_inference_step: 3 }));
    assert.deepEqual([error.status, error.code, error.param], [400, "unknown_parameter", "num_inference_step"]);
    assert.match(error.message, /did you mean 'num_inference_steps'/);
    assert.match(error.requestID, /^req_/);
    const model = await refused(OpenAI.BadRequestError, () => create({ model: "veo" }));
    assert.match(model.message, /is not served here/);
    const text = await toFile(Buffer.from("x"), "x.png", { type: "image/png" });
    const picture = await refused(OpenAI.BadRequestError, () => create({ input_reference: text }));
    assert.equal(picture.code, "invalid_media");
    const unfinished = await create(LONG);
    const early = await refused(OpenAI.NotFoundError, () => videos.downloadContent(unfinished.id));
    assert.match(early.message, /not ready yet/);
    await videos.delete(unfinished.id);
    const who = await refused(OpenAI.AuthenticationError, () => stranger.videos.list());
    assert.equal(who.code, "invalid_api_key");
  },
};

native = (await client.models.retrieve("sora-2")).defaults;
for (const [step, take] of Object.entries(steps)) {
  let broke = null;
  try {
    await take();
  } catch (error) {
    broke = error.stack ?? String(error);
  }
  console.log(JSON.stringify({ step, broke }));
}
