--- media.lua: attachments: what a file is, how many tokens it takes, and how it is shown.
---
--- A file is judged by its first bytes, never by its name, and read only by the library's worker.
--- sniff() and the counting are pure.

local util = require('gemma.util')

local M = {}

local uv = vim.uv
local uint = util.uint

M.MAX_BYTES = 512 * 1024 * 1024 -- the library's own limit; told before it is asked
M.FRAME_SECONDS = 0.04 -- of sound, one token
local HEAD = 4096 -- bytes that decide
local PATCH = 48 -- pixels on a side, one token
local SEGMENTS = 512 -- of a JPEG, looked through for its size
local AWAKE = 4 -- sounds that the library has for us; it counts 16, of all that is recorded

---@alias gemma.media.Kind 'image'|'audio'|'video'|'sound'

--- An attachment (see types.lua) that knows what it is.
---@class gemma.Media: gemma.Attachment
---@field kind gemma.media.Kind 'sound': what was recorded; the others are files
---@field path string? of a file, absolute
---@field seconds number?

---@class (exact) gemma.media.Kinship
---@field kind gemma.media.Kind
---@field format string
---@field w integer?
---@field h integer?
---@field seconds number?

-- ---- what it is ----------------------------------------------------------------------------

---@param s string
---@return integer? w
---@return integer? h
local function webp_size(s)
  local chunk = s:sub(13, 16)
  if chunk == 'VP8X' then
    return uint(s, 25, 3) + 1, uint(s, 28, 3) + 1
  elseif chunk == 'VP8L' then
    local bits = uint(s, 22, 4)
    return bits % 16384 + 1, math.floor(bits / 16384) % 16384 + 1
  elseif chunk == 'VP8 ' then
    return uint(s, 27, 2) % 16384, uint(s, 29, 2) % 16384
  end
end

--- Seconds of a WAV file: the chunk "data" may stand behind others; its size may be wrong.
---@param s string
---@param size integer of the file
---@return number?
local function wav_seconds(s, size)
  local at, rate = 13, nil ---@type integer, integer?
  while at + 7 <= #s do
    local id, len = s:sub(at, at + 3), uint(s, at + 4, 4)
    if id == 'fmt ' then
      rate = uint(s, at + 16, 4) -- bytes per second
    elseif id == 'data' then
      local n = math.min(len, size - at - 7)
      return rate and rate > 0 and n / rate or nil
    end
    at = at + 8 + len + len % 2
  end
end

---@param s string
---@return number?
local function flac_seconds(s)
  local bits = uint(s, 19, 4, true) -- 20 bits of rate, 3 of channels, 5 of depth, 4 of length
  local rate = math.floor(bits / 4096)
  local n = (bits % 16) * 2 ^ 32 + uint(s, 23, 4, true)
  return rate > 0 and n > 0 and n / rate or nil
end

--- Brands of the ISO base format, by their meaning for us; any other is a film.
local BRANDS = {
  ['M4A '] = { 'audio', 'm4a' },
  ['M4B '] = { 'audio', 'm4a' },
  avif = { 'image', 'avif' },
  heic = { 'image', 'heic' },
  heix = { 'image', 'heic' },
  mif1 = { 'image', 'heif' },
}

local BMP_HEADERS =
  { [12] = true, [40] = true, [52] = true, [56] = true, [108] = true, [124] = true }

--- What a file is, by its first bytes. JPEG and TIFF have their size elsewhere.
---@param s string at least the first 64 bytes, better HEAD
---@param size integer of the whole file
---@return gemma.media.Kinship?
function M.sniff(s, size)
  local function is(kind, format, w, h, seconds)
    return { kind = kind, format = format, w = w, h = h, seconds = seconds }
  end
  local four = s:sub(1, 4)
  if s:sub(1, 8) == '\137PNG\r\n\26\n' then
    return is('image', 'png', uint(s, 17, 4, true), uint(s, 21, 4, true))
  elseif s:sub(1, 3) == '\255\216\255' then
    return is('image', 'jpeg')
  elseif s:match('^GIF8[79]a') then
    return is('image', 'gif', uint(s, 7, 2), uint(s, 9, 2))
  elseif four == 'RIFF' or four == 'RF64' or four == 'BW64' then
    local form = s:sub(9, 12)
    if form == 'WEBP' then
      return is('image', 'webp', webp_size(s))
    elseif form == 'WAVE' then
      return is('audio', 'wav', nil, nil, wav_seconds(s, size))
    elseif form == 'AVI ' then
      return is('video', 'avi')
    end
  elseif s:sub(1, 2) == 'BM' and uint(s, 7, 4) == 0 and BMP_HEADERS[uint(s, 15, 4)] then
    local wide = uint(s, 15, 4) ~= 12
    local w, h = uint(s, 19, wide and 4 or 2), uint(s, wide and 23 or 21, wide and 4 or 2)
    return is('image', 'bmp', w, h < 2 ^ 31 and h or 2 ^ 32 - h) -- negative: from the top
  elseif four == 'II*\0' or four == 'MM\0*' then
    return is('image', 'tiff')
  elseif four == 'fLaC' then
    return is('audio', 'flac', nil, nil, flac_seconds(s))
  elseif four == 'OggS' then
    return is(s:find('\128theora', 1, true) and 'video' or 'audio', 'ogg')
  elseif four == 'FORM' and s:match('^AIF[FC]', 9) then
    return is('audio', 'aiff')
  elseif s:sub(5, 8) == 'ftyp' then
    local brand = BRANDS[s:sub(9, 12)] or { 'video', 'mp4' }
    return is(brand[1], brand[2])
  elseif four == '\26\69\223\163' then
    local webm = s:sub(1, 64):find('webm', 1, true)
    return is('video', webm and 'webm' or 'matroska')
  elseif s:sub(1, 3) == 'ID3' then
    return is('audio', 'mp3')
  elseif s:match('^\255[\240\241\248\249]') then
    return is('audio', 'aac')
  elseif s:match('^\255[\226-\229\242-\245\250-\253]') then
    -- Frame sync of layer II or III. Layer I would look like the mark of UTF-16 text.
    return is('audio', 'mp3')
  elseif
    s:match('^%s*<svg[%s>]') or (s:match('^[\239\187\191%s]*<%?xml') and s:find('<svg[%s>]'))
  then
    return is('image', 'svg')
  end
end

--- Pixels of a JPEG: from marker to marker until the frame header.
---@param read fun(at: integer, n: integer): string? bytes from offset at
---@return integer? w
---@return integer? h
function M.jpeg_size(read)
  local at = 2
  for _ = 1, SEGMENTS do
    local s = read(at, 9)
    if not s or #s < 4 or s:byte(1) ~= 0xFF then
      return nil
    end
    local marker = s:byte(2)
    if marker == 0xFF then
      at = at + 1 -- a fill byte
    elseif
      marker >= 0xC0
      and marker <= 0xCF
      and marker ~= 0xC4
      and marker ~= 0xC8
      and marker ~= 0xCC
    then
      if #s < 9 then
        return nil
      end
      return uint(s, 8, 2, true), uint(s, 6, 2, true)
    else
      at = at + 2 + uint(s, 3, 2, true)
    end
  end
end

--- Tokens of a picture: the largest grid of patches within the budget that keeps the shape.
---@param w integer
---@param h integer
---@param budget integer
---@return integer?
function M.image_tokens(w, h, budget)
  if w < 1 or h < 1 then
    return nil
  end
  local f = math.sqrt(budget * PATCH * PATCH / (w * h))
  local c, r = math.floor(f * w / PATCH), math.floor(f * h / PATCH)
  if r == 0 then
    r, c = 1, math.min(math.floor(w / h), budget)
  elseif c == 0 then
    c, r = 1, math.min(math.floor(h / w), budget)
  end
  return c * r
end

--- The budget of a picture; nil when only the model knows it, which is not loaded.
---@return integer?
local function image_budget()
  local set = require('gemma.config').get().media.image_tokens
  if set ~= 'auto' then
    return set
  end
  local known = require('gemma.engine').numbers()
  local n = known and known.image_tokens or 0
  return n > 0 and n or nil
end

---@param seconds number
---@return integer
function M.sound_tokens(seconds)
  -- A hair less, or 0.28 s would be 8 frames in binary fractions.
  return math.max(1, math.ceil(seconds / M.FRAME_SECONDS - 1e-6))
end

-- ---- files ---------------------------------------------------------------------------------

---@param path string
---@return string
local function tail(path)
  return vim.fs.basename(path)
end

---@param path string
---@return string with ~ for the home folder expanded, and nothing else
function M.normalize(path)
  return vim.fs.normalize(util.from_here(path), { expand_env = false })
end

--- A path as it is shown: from here or from the home folder.
---@param path string
---@return string
function M.short(path)
  return vim.fn.fnamemodify(path, ':~:.')
end

---@param is gemma.media.Kinship
---@return string?
local function note(is)
  if is.w and is.h then
    return ('%dx%d'):format(is.w, is.h)
  end
  return is.seconds and util.duration(is.seconds) or nil
end

local SOUND_ONLY = { m4a = true, mka = true, weba = true, opus = true, oga = true }

--- A file as an attachment. Reads a few kilobytes of it; a pipe or a device is not opened.
---@param path string
---@param o { temp: boolean?, name: string? }?
---@return gemma.Attachment?
---@return string? err one line
function M.file(path, o)
  o = o or {}
  path = vim.fn.fnamemodify(M.normalize(path), ':p')
  local name = o.name or tail(path)
  local stat, why, code = uv.fs_stat(path)
  if not stat then
    return nil,
      code == 'ENOENT' and ('there is no file %s.'):format(M.short(path))
        or ('cannot read %s: %s.'):format(name, why)
  elseif stat.type == 'directory' then
    return nil, ('%s is a folder. Name a file.'):format(M.short(path))
  elseif stat.type ~= 'file' then
    return nil, ('%s is not a regular file. Copy it into one first.'):format(name)
  elseif stat.size == 0 then
    return nil, ('%s is empty.'):format(name)
  elseif stat.size > M.MAX_BYTES then
    return nil, ('%s is larger than 512 MiB. Take a smaller one.'):format(name)
  elseif not o.temp and require('gemma.exclude').is_excluded(path) then
    return nil, ('%s is excluded (exclude list).'):format(name)
  end
  local fd, err = uv.fs_open(path, 'r', 0)
  if not fd then
    return nil, ('cannot read %s: %s.'):format(name, err)
  end
  local function read(at, n)
    return uv.fs_read(fd, n, at)
  end
  local head = read(0, HEAD) or ''
  local is = M.sniff(head, stat.size)
  if is and is.format == 'jpeg' then
    is.w, is.h = M.jpeg_size(read)
  end
  uv.fs_close(fd)
  if not is then
    return nil, ('%s is no picture, sound or video. Name one.'):format(name)
  end
  if is.kind == 'video' and SOUND_ONLY[(path:match('%.(%w+)$') or ''):lower()] then
    is.kind = 'audio' -- the same containers; only a look at the tracks would tell
  end
  local tokens
  if is.w and is.h then
    local budget = image_budget()
    tokens = budget and M.image_tokens(is.w, is.h, budget)
  elseif is.kind == 'audio' and is.seconds then
    tokens = M.sound_tokens(is.seconds)
  end
  local self ---@type gemma.Media
  self = {
    kind = is.kind,
    parts = { { kind = is.kind, data = path } },
    name = name,
    note = note(is),
    path = path,
    bytes = stat.size,
    tokens = tokens,
    seconds = is.seconds,
    release = o.temp and function()
      uv.fs_unlink(path)
    end or nil,
  }
  return self
end

local EXTENSIONS = {}
for ext in
  ([[png jpg jpeg webp gif bmp tif tiff svg avif heic wav flac ogg opus oga mp3 m4a aac aiff
  mp4 m4v mov webm mkv avi]]):gmatch('%S+')
do
  EXTENSIONS[ext] = true
end
local PICTURES = {}
for ext in ('png jpg jpeg webp gif bmp tif tiff svg'):gmatch('%S+') do
  PICTURES[ext] = true
end

---@param path string
---@return boolean by its name only
function M.looks_like(path)
  return EXTENSIONS[(path:match('%.(%w+)$') or ''):lower()] == true
end

---@param path string
---@return boolean
function M.looks_like_picture(path)
  return PICTURES[(path:match('%.(%w+)$') or ''):lower()] == true
end

-- ---- what was recorded ---------------------------------------------------------------------

--- All samples of a sound: signed 16-bit little-endian, channels interleaved.
---@class (exact) gemma.Recorded
---@field pcm string
---@field rate integer Hz
---@field channels integer

local awake = {} ---@type gemma.Part[] whose sounds the library has, the last one asked about at the end

---@param part gemma.Part
local function leave_out(part)
  awake = vim.tbl_filter(function(p)
    return p ~= part
  end, awake)
end

--- Sounds that the library does not have, because the model was unloaded since or because they had to
--- give way, are made anew.
---@param parts gemma.Part[] of a request; the model is there
function M.wake(parts)
  for _, part in ipairs(parts) do
    local from = part.recorded
    if from then
      local sound = not part.sound:lives()
        and require('gemma.sound').create(from.rate, from.channels)
      if sound then
        sound:append(from.pcm)
        sound:finish()
        part.sound = sound
      end
      leave_out(part)
      awake[#awake + 1] = part
      if #awake > AWAKE then
        table.remove(awake, 1).sound:drop()
      end
    end
  end
end

--- What was recorded, as an attachment that does not end with the model.
---@param sound gemma.Sound
---@param seconds number
---@param recorded gemma.Recorded
---@return gemma.Media
function M.sound(sound, seconds, recorded)
  local part = { kind = 'sound', sound = sound, recorded = recorded } ---@type gemma.Part
  return {
    kind = 'sound',
    parts = { part },
    name = 'voice',
    note = util.duration(seconds),
    tokens = M.sound_tokens(seconds),
    seconds = seconds,
    release = function()
      leave_out(part)
      part.recorded = nil
      part.sound:drop()
    end,
  }
end

--- The parts of a turn for the paths that a caller names, before its text: the model was trained in
--- this order.
---@param o { images: string[]?, audio: string[]?, video: string[]? }
---@return gemma.Part[]
function M.parts(o)
  local out = {}
  local function add(list, kind)
    for _, path in ipairs(type(list) == 'string' and { list } or list or {}) do
      local full = vim.fn.fnamemodify(M.normalize(path), ':p')
      out[#out + 1] = { kind = kind, data = full }
    end
  end
  add(o.images, 'image')
  add(o.video, 'video')
  add(o.audio, 'audio')
  return out
end

--- What decoding has told: the tokens of the one attachment whose length was not known.
---@param list gemma.Attachment[]
---@param n_media integer? rows that the first job with these attachments computed
---@return gemma.Attachment? changed
function M.learn(list, n_media)
  local unknown, known = nil, 0
  for _, a in ipairs(list) do
    if a.tokens then
      known = known + a.tokens
    elseif unknown then
      return nil
    else
      unknown = a
    end
  end
  if unknown and (n_media or 0) > known then
    unknown.tokens = n_media - known
    return unknown
  end
end

return M
