--- samples.lua: what recorders write to their standard output, to bare samples. Pure.
---
--- 16-bit PCM behind a WAV or AU header, or without any. Headers of streams lie about the length, so
--- only one that is believable counts. Bytes may come in any pieces.

local uint = require('gemma.util').uint

local M = {}

local HEADER_MAX = 65536

---@class gemma.Samples
---@field rate integer? Hz, once known
---@field channels integer?
---@field err string? one line; nothing more comes then
---@field n integer bytes of samples so far
---@field private head string? what was read before the first sample
---@field private left number bytes of samples that are still to come
---@field private swap boolean big-endian
---@field private odd string half a sample
local Samples = {}
Samples.__index = Samples

---@return gemma.Samples
function M.new()
  return setmetatable({ n = 0, head = '', left = 2 ^ 52, swap = false, odd = '' }, Samples)
end

--- nil: the header is not complete. Otherwise the place of the first sample.
---@param self gemma.Samples
---@param s string
---@return integer?
local function read_wav(self, s)
  local at, bits, tag = 13, nil, nil
  while #s >= at + 7 do
    local id, len = s:sub(at, at + 3), uint(s, at + 4, 4)
    if id == 'data' then
      if tag ~= 1 or bits ~= 16 then
        self.err = 'the recorder writes no 16-bit PCM'
      end
      -- Streams have 0, or the largest number that their author knew.
      if len > 0 and len < 0x70000000 then
        self.left = len
      end
      return at + 8
    elseif id == 'fmt ' and #s >= at + 24 then
      tag, self.channels, self.rate = uint(s, at + 8, 2), uint(s, at + 10, 2), uint(s, at + 12, 4)
      bits = uint(s, at + 22, 2)
      if tag == 0xFFFE and #s >= at + 34 then
        tag = uint(s, at + 32, 2) -- the extensible form tells it later
      end
    end
    at = at + 8 + len + len % 2
  end
end

---@param self gemma.Samples
---@param s string
---@return integer?
local function read_au(self, s)
  local big = s:sub(1, 4) == '.snd'
  local start = uint(s, 5, 4, big)
  if #s < 24 or #s < math.min(start, HEADER_MAX) then
    return nil
  end
  if uint(s, 13, 4, big) ~= 3 or start < 24 then
    self.err = 'the recorder writes no 16-bit PCM'
  end
  self.swap, self.rate, self.channels = big, uint(s, 17, 4, big), uint(s, 21, 4, big)
  return start + 1
end

--- Takes what came and gives the samples in it: little-endian, channels interleaved.
---@param bytes string
---@return string
function Samples:feed(bytes)
  if self.err then
    return ''
  end
  if self.head then
    local s = self.head .. bytes
    local magic = s:sub(1, 4)
    local start
    if #s < 4 then
      self.head = s
      return ''
    elseif magic == 'RIFF' or magic == 'RF64' then
      start = read_wav(self, s)
    elseif magic == '.snd' or magic == 'dns.' then
      start = read_au(self, s)
    else
      self.rate, self.channels, start = 16000, 1, 1
    end
    if not start then
      self.head = s
      if #s > HEADER_MAX then
        self.err = 'the recorder writes a header without an end'
      end
      return ''
    end
    if
      not self.err
      and (self.rate < 1000 or self.rate > 192000 or self.channels < 1 or self.channels > 8)
    then
      self.err = ('the recorder writes %d channels at %d Hz'):format(self.channels, self.rate)
    end
    if self.err then
      return ''
    end
    self.head, bytes = nil, s:sub(start)
  end
  bytes = self.odd .. bytes
  local even = #bytes - #bytes % 2
  self.odd = bytes:sub(even + 1)
  bytes = bytes:sub(1, math.min(even, self.left - self.left % 2))
  self.left = self.left - #bytes
  self.n = self.n + #bytes
  if self.swap then
    bytes = bytes:gsub('(.)(.)', '%2%1')
  end
  return bytes
end

---@return number
function Samples:seconds()
  return self.rate and self.n / (2 * self.channels * self.rate) or 0
end

---@param v integer
---@param n integer bytes
---@return string
local function le(v, n)
  local out = {}
  for i = 1, n do
    out[i] = string.char(v % 256)
    v = math.floor(v / 256)
  end
  return table.concat(out)
end

--- A WAV file of samples.
---@param pcm string
---@param rate integer
---@param channels integer
---@return string
function M.wav(pcm, rate, channels)
  -- stylua: ignore
  return 'RIFF' .. le(36 + #pcm, 4) .. 'WAVEfmt ' .. le(16, 4) .. le(1, 2) .. le(channels, 2)
    .. le(rate, 4) .. le(rate * channels * 2, 4) .. le(channels * 2, 2) .. le(16, 2)
    .. 'data' .. le(#pcm, 4) .. pcm
end

return M
