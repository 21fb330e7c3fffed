--- draw.lua: pictures and sounds that somebody would ask about, as files, without any program.

local M = {}

local RATE = 16000

---@param path string
---@param bytes string
local function write(path, bytes)
  local f = assert(io.open(path, 'wb'))
  f:write(bytes)
  f:close()
end

---@param n integer
---@return string four bytes, the highest first
local function big(n)
  local bit = require('bit')
  return string.char(bit.band(bit.rshift(n, 24), 255), bit.band(bit.rshift(n, 16), 255),
    bit.band(bit.rshift(n, 8), 255), bit.band(n, 255))
end

---@param n integer
---@param bytes integer
---@return string the lowest first
local function little(n, bytes)
  local out = {}
  for i = 1, bytes do
    out[i] = string.char(math.floor(n / 256 ^ (i - 1)) % 256)
  end
  return table.concat(out)
end

local crcs = {}
for n = 0, 255 do
  local bit, c = require('bit'), n
  for _ = 1, 8 do
    c = bit.band(c, 1) == 1 and bit.bxor(0xEDB88320, bit.rshift(c, 1)) or bit.rshift(c, 1)
  end
  crcs[n] = c
end

---@param s string
---@return integer
local function crc32(s)
  local bit, c = require('bit'), -1
  for i = 1, #s do
    c = bit.bxor(crcs[bit.band(bit.bxor(c, s:byte(i)), 255)], bit.rshift(c, 8))
  end
  return bit.bnot(c)
end

---@param kind string
---@param data string
---@return string
local function chunk(kind, data)
  return big(#data) .. kind .. data .. big(crc32(kind .. data))
end

--- zlib's format with nothing compressed.
---@param s string
---@return string
local function stored(s)
  local out, a, b = { '\120\1' }, 1, 0
  for at = 1, #s, 65535 do
    local part = s:sub(at, at + 65534)
    local last = at + 65535 > #s
    out[#out + 1] = (last and '\1' or '\0') .. little(#part, 2) .. little(65535 - #part, 2) .. part
  end
  for i = 1, #s do
    a = (a + s:byte(i)) % 65521
    b = (b + a) % 65521
  end
  return table.concat(out) .. big(require('bit').tobit(b * 65536 + a))
end

--- A PNG file. inside(x, y) tells where the thing is.
---@param path string
---@param width integer
---@param height integer
---@param colour integer[] red, green, blue
---@param ground integer[]
---@param inside fun(x: integer, y: integer): boolean
function M.png(path, width, height, colour, ground, inside)
  local on, off = string.char(unpack(colour)), string.char(unpack(ground))
  local rows = {}
  for y = 0, height - 1 do
    local row = { '\0' }
    for x = 0, width - 1 do
      row[#row + 1] = inside(x, y) and on or off
    end
    rows[#rows + 1] = table.concat(row)
  end
  local head = big(width) .. big(height) .. '\8\2\0\0\0'
  write(path, '\137PNG\r\n\26\n' .. chunk('IHDR', head) .. chunk('IDAT', stored(table.concat(rows)))
    .. chunk('IEND', ''))
end

---@param path string
---@param colour integer[]
function M.circle(path, colour)
  M.png(path, 240, 180, colour, { 255, 255, 255 }, function(x, y)
    return (x - 130) ^ 2 + (y - 90) ^ 2 < 60 ^ 2
  end)
end

---@param path string
---@param colour integer[]
function M.square(path, colour)
  M.png(path, 200, 200, colour, { 255, 255, 255 }, function(x, y)
    return math.abs(x - 90) < 55 and math.abs(y - 100) < 55
  end)
end

--- A WAV file of one channel, 16 kHz.
---@param path string
---@param seconds number
---@param wave fun(t: number): number from -1 to 1
function M.wav(path, seconds, wave)
  local data = {}
  for i = 0, math.floor(seconds * RATE) - 1 do
    local v = math.floor(wave(i / RATE) * 32767 + 0.5)
    data[#data + 1] = little(v % 65536, 2)
  end
  local body = table.concat(data)
  write(path, 'RIFF' .. little(36 + #body, 4) .. 'WAVEfmt ' .. little(16, 4) .. little(1, 2)
    .. little(1, 2) .. little(RATE, 4) .. little(RATE * 2, 4) .. little(2, 2) .. little(16, 2)
    .. 'data' .. little(#body, 4) .. body)
end

--- So many beeps, with soft ends.
---@param path string
---@param n integer
---@param hertz number
function M.beeps(path, n, hertz)
  local long, gap = 0.15, 0.17
  M.wav(path, 0.1 + n * (long + gap), function(t)
    local at = t - 0.1
    local k, within = math.floor(at / (long + gap)), at % (long + gap)
    if at < 0 or k >= n or within > long then
      return 0
    end
    local edge = math.min(1, within / 0.01, (long - within) / 0.01)
    return 0.4 * edge * math.sin(2 * math.pi * hertz * t)
  end)
end

return M
