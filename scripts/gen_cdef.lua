--- gen_cdef.lua: lua/gemma/cdef.lua from the part of csrc/api/gemma.h between the CDEF marks.
---
---   luajit scripts/gen_cdef.lua            writes the file
---   luajit scripts/gen_cdef.lua --check    exit status 1 when it is out of date
---
--- Runs under luajit and under `nvim -l`, from the top of the checkout.

local HEADER = 'csrc/api/gemma.h'
local OUT = 'lua/gemma/cdef.lua'

local function read(path)
  local f = io.open(path, 'rb')
  if not f then
    return nil
  end
  local s = f:read('*a')
  f:close()
  return s
end

local function fail(msg)
  io.stderr:write('gen_cdef: ', msg, '\n')
  os.exit(1)
end

local header = read(HEADER) or fail('cannot read ' .. HEADER)
local text = header:match('/%* CDEF BEGIN %*/(.-)/%* CDEF END %*/')
  or fail('no CDEF marks in ' .. HEADER)

-- The declarations are all the plugin needs; the comments stay in the header.
text = text:gsub('/%*.-%*/', ''):gsub('[ \t]+\n', '\n'):gsub('\n\n+', '\n'):gsub('^\n+', '')
local abi = text:match('GEMMA_ABI%s*=%s*(%d+)') or fail('no GEMMA_ABI in ' .. HEADER)
local errors = {}
for name, code in text:gmatch('GEMMA_(E%u+)%s*=%s*(%-%d+)') do
  errors[#errors + 1] = ('    %s = %s,\n'):format(name, code)
end

local ok, ffi = pcall(require, 'ffi')
if ok then
  local parsed, err = pcall(ffi.cdef, text)
  if not parsed then
    fail('LuaJIT cannot parse the declarations: ' .. err)
  end
end

local out = ([[
--- Generated from csrc/api/gemma.h by scripts/gen_cdef.lua; do not edit.
return {
  abi = %s,
  errors = {
%s  },
  text = [=[
%s]=],
}
]]):format(abi, table.concat(errors), text)

local args = arg or {}
if args[1] == '--check' then
  if read(OUT) ~= out then
    fail(OUT .. ' is out of date: run make cdef')
  end
else
  local f = io.open(OUT, 'wb') or fail('cannot write ' .. OUT)
  f:write(out)
  f:close()
end
